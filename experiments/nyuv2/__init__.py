"""Tables 1, 6 and 8, Figure 5: NYUv2, segmentation, depth and surface normals of indoor scenes."""
