"""Result tables: rows, statistics, rendering and files."""
