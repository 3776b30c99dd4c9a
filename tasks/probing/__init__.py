"""Probing sets from disk: ImageNet validation, Broden with its annotation, CIFAR, and any folder of images.

``python -m tasks.probing broden --out FOLDER`` downloads Broden; the other sets are read from the user's folders.
"""
