"""Figures and tables of the runs on MT3, MT10 and MT50."""
