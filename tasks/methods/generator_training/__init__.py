"""Training and adapting the denoising UNet of a text-to-image generator, with a structure game beside the loss."""
