"""Networks in training: a stack, its data and its timetable."""
