"""What if: single layers locked or cut deeper, with costs at once and accuracy in a minute."""
