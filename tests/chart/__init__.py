"""What the charts' tests share: Helm itself, the objects that it renders, and which branches it took."""
