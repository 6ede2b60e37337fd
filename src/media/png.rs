//! PNGs, decoded row by row: only a few rows are in memory at a time, even of an interlaced one.

use std::io::Cursor;

use ::png::{ColorType, Decoder, Limits, Reader, Transformations};
use image::DynamicImage;

use super::reduction::{Reduction, Rgba, Stride};
use super::{Error, upright};

/// 16 MiB: more than the largest file that can be configured. The metadata of a file takes at most
/// as many bytes as the file.
const METADATA_BYTES: usize = 16 * 1024 * 1024;

/// The columns and rows of each pass over an interlaced picture. Source: the specification of PNG,
/// section 8.1.
pub(super) const ADAM7: [(Stride, Stride); 7] = [
    (Stride::new(0, 8), Stride::new(0, 8)),
    (Stride::new(4, 8), Stride::new(0, 8)),
    (Stride::new(0, 4), Stride::new(4, 8)),
    (Stride::new(2, 4), Stride::new(0, 4)),
    (Stride::new(0, 2), Stride::new(2, 4)),
    (Stride::new(1, 2), Stride::new(0, 2)),
    (Stride::new(0, 1), Stride::new(1, 2)),
];

/// A PNG whose header has been read.
pub(super) struct Png<'a>(Reader<Cursor<&'a [u8]>>);

impl<'a> Png<'a> {
    /// Reads all data before the pixels.
    pub(super) fn open(content: &'a [u8]) -> Result<Self, Error> {
        let limits = Limits {
            bytes: METADATA_BYTES,
        };
        let mut decoder = Decoder::new_with_limits(Cursor::new(content), limits);
        // Texts and colour profiles are compressed, and may expand to any amount of memory.
        decoder.set_ignore_text_chunk(true);
        decoder.set_ignore_iccp_chunk(true);
        decoder.set_transformations(Transformations::normalize_to_color8());
        Ok(Self(decoder.read_info()?))
    }

    /// Returns the width and the height in pixels.
    pub(super) fn size(&self) -> (u32, u32) {
        self.0.info().size()
    }

    /// Decodes the picture, or the first one of an animation, to a small one.
    pub(super) fn shrink(mut self) -> Result<DynamicImage, Error> {
        let (width, height) = self.size();
        let passes: &[_] = if self.0.info().interlaced {
            &ADAM7
        } else {
            &[(Stride::ONE, Stride::ONE)]
        };
        let mut reduction = Reduction::new(width, height);
        for &(columns, rows) in passes {
            // A pass without columns has no rows either.
            if columns.up_to(width).next().is_none() {
                continue;
            }
            for row in rows.up_to(height) {
                self.add_row(&mut reduction, row, columns)?;
            }
        }
        let exif = self.0.info().exif_metadata.as_deref();
        Ok(upright(reduction.finish(), exif))
    }

    fn add_row(
        &mut self,
        reduction: &mut Reduction,
        row: u32,
        columns: Stride,
    ) -> Result<(), Error> {
        let (colour, _) = self.0.output_color_type();
        let pixels = self.0.next_row()?.ok_or(Error::Unreadable)?;
        let pixels = pixels.data();
        match colour {
            ColorType::Grayscale => {
                let pixels = pixels.iter().map(|&grey| [grey, grey, grey, u8::MAX]);
                reduction.add(row, columns, pixels);
            }
            ColorType::GrayscaleAlpha => {
                let (pixels, _) = pixels.as_chunks();
                let pixels = pixels
                    .iter()
                    .map(|&[grey, opacity]| [grey, grey, grey, opacity]);
                reduction.add(row, columns, pixels);
            }
            ColorType::Rgb => {
                let (pixels, _) = pixels.as_chunks();
                let pixels = pixels.iter().map(|&[r, g, b]| [r, g, b, u8::MAX]);
                reduction.add(row, columns, pixels);
            }
            ColorType::Rgba => {
                let (pixels, _) = pixels.as_chunks();
                let pixels: &[Rgba] = pixels;
                reduction.add(row, columns, pixels.iter().copied());
            }
            // The decoder is configured to return colours in place of indices.
            ColorType::Indexed => return Err(Error::Unreadable),
        }
        Ok(())
    }
}
