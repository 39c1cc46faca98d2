"""pi0's pictures where torchvision is not installed: transformers has them on that backend alone."""

from transformers.image_processing_backends import PilBackend
from transformers.image_utils import PILImageResampling


class PI0ImageProcessor(PilBackend):
    """The defaults of transformers' class of this name on its PIL backend.

    Differs: a resized pixel may round another way, by two of 255 levels at most where it was seen beside torchvision's.
    """

    resample = PILImageResampling.BICUBIC
    image_mean = (0.5, 0.5, 0.5)
    image_std = (0.5, 0.5, 0.5)
    size = {"max_height": 224, "max_width": 224}  # noqa: RUF012 - as transformers' classes have them
    pad_size = {"height": 224, "width": 224}  # noqa: RUF012
    default_to_square = False
    do_resize = True
    do_rescale = True
    do_normalize = True
    do_convert_rgb = True
    do_pad = True
    image_seq_length = 256
