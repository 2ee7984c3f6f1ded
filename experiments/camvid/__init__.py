"""CamVid: 7 classes and the distance to class boundaries, table_camvid (ours)."""
