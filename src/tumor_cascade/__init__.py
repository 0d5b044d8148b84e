"""Brain MRI tumor cascade: from raw slices to a calibrated, evaluated two-model product. Research use only."""

__version__ = "0.1.0"
RESEARCH_USE = "Research use only: not a medical device, not for diagnosis or treatment."
