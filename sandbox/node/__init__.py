"""The sandbox's node: runs pods on loopback addresses and reports on them as a kubelet does."""
