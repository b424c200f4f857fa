"""Measure what synthetic images are worth to a model of real images: arms, training, choices and figures."""
