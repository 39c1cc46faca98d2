"""pi0's pictures where torchvision is not installed: transformers has them on that backend alone."""

from transformers.image_processing_backends import PilBackend
from transformers.image_utils import IMAGENET_STANDARD_MEAN, IMAGENET_STANDARD_STD, PILImageResampling


class PI0ImageProcessor(PilBackend):  # type: ignore[misc]
    """The defaults of transformers' class of this name on its PIL backend.

    Differs: a resized pixel may round another way, by two of 255 levels at most where it was seen beside torchvision's.
    """

    resample = PILImageResampling.BICUBIC
    image_mean = IMAGENET_STANDARD_MEAN
    image_std = IMAGENET_STANDARD_STD
    size = {"max_height": 224, "max_width": 224}  # noqa: RUF012 - as transformers' classes have them
    pad_size = {"height": 224, "width": 224}  # noqa: RUF012
    default_to_square = False
    do_resize = True
    do_rescale = True
    do_normalize = True
    do_convert_rgb = True
    do_pad = True
    image_seq_length = 256
