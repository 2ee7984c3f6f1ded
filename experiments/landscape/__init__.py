"""Figure 1, the landscape of Appendix D, and Figure 2, the schematic of the projection."""
