"""The student: image and text towers, their encoders and heads."""
