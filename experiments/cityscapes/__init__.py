"""Tables 5 and 7: CityScapes, segmentation and inverse depth of street scenes."""
