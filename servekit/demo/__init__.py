"""The bundled demo model: handwritten digits, read from images of 8 by 8 grey values."""

from pathlib import Path

MODEL_PATH = Path(__file__).with_name("model.onnx")
"""What `servekit serve` serves when no path is given."""
