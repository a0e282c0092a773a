"""Colour profiles: a picture whose file says how its colours are meant is brought to sRGB, which is what everything here works in."""

import io
from functools import lru_cache

from PIL import Image, ImageCms

COLOURS = {"RGB": "RGB", "CMYK": "RGB", "L": "RGB"}
"""Modes that a profile can describe, and the mode they become."""


def in_srgb(image: Image.Image) -> Image.Image:
    """The picture in sRGB and without its profile; one without a profile, or with a broken one or one for another kind of picture, keeps its values."""
    profile = image.info.get("icc_profile")
    if not profile:
        return image
    if image.mode in ("P", "PA") or ("transparency" in image.info and image.mode in ("RGB", "L")):
        plain = image.convert("RGBA" if image.mode == "PA" or "transparency" in image.info else "RGB")
    else:
        plain = image
    return _without_profile(_converted(plain, profile))


def _converted(image: Image.Image, profile: bytes) -> Image.Image:
    """The colours converted, alpha as it was."""
    if image.mode in ("RGBA", "LA"):
        colours = image.convert(image.mode[:-1])
        done = _converted(colours, profile)
        if done is colours:
            return image
        done.putalpha(image.getchannel("A"))
        return done
    transform = _transform(profile, image.mode) if image.mode in COLOURS else None
    return image if transform is None else transform.apply(image)


@lru_cache(maxsize=8)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From a profile to sRGB; None when it is sRGB already, cannot be read, or is not meant for this mode."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if mode == "RGB" and _is_srgb(source):
            return None
        return ImageCms.ImageCmsTransform(source, _srgb(), mode, COLOURS[mode], ImageCms.Intent.RELATIVE_COLORIMETRIC, flags=ImageCms.Flags.BLACKPOINTCOMPENSATION)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def _is_srgb(profile: ImageCms.ImageCmsProfile) -> bool:
    """Whether a profile calls itself sRGB, so that there is nothing to convert; most photos carry such a one."""
    name = (profile.profile.profile_description or "").lower()
    return "srgb" in name and "linear" not in name


@lru_cache(maxsize=1)
def _srgb() -> ImageCms.ImageCmsProfile:
    """The profile of sRGB."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _without_profile(image: Image.Image) -> Image.Image:
    """A picture that does not carry a profile on into a file."""
    image.info.pop("icc_profile", None)
    return image
