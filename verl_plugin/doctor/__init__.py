"""`sv6d doctor`: is the installation as the pins say, and do plug-in and mends work in it?"""
