"""The sandbox's node: runs pods as processes on loopback addresses and reports on them as a kubelet does."""
