"""What a checkpoint detects, and how well: Ultralytics' validators, and two models compared image by image."""
