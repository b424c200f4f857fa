"""Measure what synthetic images are worth to a classifier of real images: arms, training, choices and figures."""
