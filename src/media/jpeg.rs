//! JPEGs: small ones are decoded in full, large ones at an eighth of their size.
//!
//! A JPEG stores each block of 8 by 8 pixels as a mean (the DC coefficient) and 63 details (AC
//! coefficients). At an eighth of the size, only the means are visible. Pictures with about 1600
//! pixels a side or more are decoded from their means alone ([`means`]), to 200 pixels a side or
//! more. That takes 2 bytes for each 64 pixels of a component, at most 8 MiB, for any kind of JPEG.
//!
//! The decoder of the means is our own, because no maintained crate decodes a JPEG at a reduced
//! size in bounded memory. zune-jpeg decodes the whole picture. jpeg-decoder is in maintenance
//! mode. It holds all details of a progressive JPEG in memory (280 MiB for 48 megapixels). Those of
//! other JPEGs it passes to threads through unbounded queues.

mod huffman;
mod means;
mod segments;

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, ImageReader, Limits, RgbImage};

use super::reduction::{BOX, Reduction, Stride};
use super::{Error, MAX_PIXELS, upright};
use means::Means;
use segments::{Segment, Segments, marker};

/// 100 scans: the maximum. Encoders make about ten.
const MAX_SCANS: usize = 100;

/// A JPEG whose header has been read.
pub(super) struct Jpeg<'a> {
    segments: Segments<'a>,
    content: &'a [u8],
    width: u32,
    height: u32,
}

impl<'a> Jpeg<'a> {
    /// Reads the size of the picture.
    pub(super) fn open(content: &'a [u8]) -> Result<Self, Error> {
        let segments = Segments::of(content).ok_or(Error::Unreadable)?;
        let frame = segments.clone().find(Segment::is_frame);
        let payload = frame.ok_or(Error::Unreadable)?.payload;
        let &[_, y1, y2, x1, x2, ..] = payload else {
            return Err(Error::Unreadable);
        };
        let width = u16::from_be_bytes([x1, x2]);
        let height = u16::from_be_bytes([y1, y2]);
        if width == 0 || height == 0 {
            return Err(Error::Unreadable);
        }
        Ok(Self {
            segments,
            content,
            width: width.into(),
            height: height.into(),
        })
    }

    /// Returns the width and the height in pixels.
    pub(super) fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// Decodes the picture to a small one.
    pub(super) fn shrink(self) -> Result<DynamicImage, Error> {
        let exif = self.segments.clone().find_map(Segment::exif);
        let is_large = self.width.max(self.height).div_ceil(8) >= BOX;
        let image = if is_large {
            Means::decode(self.segments)?.shrink()
        } else {
            self.decode_in_full()?
        };
        Ok(upright(image, exif))
    }

    fn decode_in_full(self) -> Result<RgbImage, Error> {
        let scans = self
            .segments
            .filter(|segment| segment.marker == marker::SCAN);
        let scans = scans.count();
        // Each scan covers the whole picture.
        let decoded_pixels = u64::from(self.width) * u64::from(self.height) * scans as u64;
        if scans > MAX_SCANS || decoded_pixels > MAX_PIXELS {
            return Err(Error::TooManyScans { scans });
        }
        let mut limits = Limits::default();
        // The size that was checked is the limit, even if this decoder reads a different one.
        limits.max_image_width = Some(self.width);
        limits.max_image_height = Some(self.height);
        let mut reader = ImageReader::with_format(Cursor::new(self.content), ImageFormat::Jpeg);
        reader.limits(limits);
        let image = reader.decode().map_err(Error::Jpeg)?.into_rgb8();
        let mut reduction = Reduction::new(image.width(), image.height());
        for (row, pixels) in (0..).zip(image.rows()) {
            let pixels = pixels.map(|image::Rgb([r, g, b])| [*r, *g, *b, u8::MAX]);
            reduction.add(row, Stride::ONE, pixels);
        }
        Ok(reduction.finish())
    }
}
