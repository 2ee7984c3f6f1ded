"""Statistics, tables, figures and claims from result files; never imports torch."""
