//! The doors of the fuzz targets to parsers that are private otherwise. Not a part of what the crate offers.

pub use crate::template::Template;
