"""What several tests share: an oracle for images, and makers of images in memory."""
