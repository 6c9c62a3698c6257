"""Merges the small files of single commits into files of lerobot's sizes."""
