"""The edge to the operating system: suspicious reading, whole writing, faults and signals in one line."""
