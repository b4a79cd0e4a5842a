"""Run the library on Ray. Only this package imports Ray.

Ray and Tune read the variables below when they are imported, in the driver and in every worker.
"""

import os
from pathlib import Path

_SETTINGS = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a worker without a GPU sees none; see runtime.use_resources
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # with Tune's own handler, an interrupted search returns as if it had ended
    "TUNE_GLOBAL_CHECKPOINT_S": "1",  # seconds of a search that a kill may lose
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
for _name, _value in _SETTINGS.items():
    os.environ.setdefault(_name, _value)

# `ray start` uses the token where it finds one; a process that joins has to be configured to send it.
if (Path.home() / ".ray" / "auth_token").is_file():
    os.environ.setdefault("RAY_AUTH_MODE", "token")
