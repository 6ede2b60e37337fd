//! GIFs, whose first picture is decoded row by row: only one row is in memory at a time.

use std::io::Cursor;

use ::gif::{ColorOutput, DecodeOptions, Decoder};
use image::DynamicImage;

use super::reduction::{Reduction, Rgba, Stride};
use super::{Error, upright};

/// The rows of each pass over an interlaced picture. Source: the specification of `GIF89a`,
/// appendix E.
const PASSES: [Stride; 4] = [
    Stride::new(0, 8),
    Stride::new(4, 8),
    Stride::new(2, 4),
    Stride::new(1, 2),
];

/// A GIF that has been read up to the pixels of its first picture.
pub(super) struct Gif<'a> {
    decoder: Decoder<Cursor<&'a [u8]>>,
    /// The size of the canvas in pixels.
    canvas: (u32, u32),
    /// The position of the first picture on the canvas.
    left: u32,
    top: u32,
    width: u32,
    height: u32,
    is_interlaced: bool,
}

impl<'a> Gif<'a> {
    /// Reads all data before the pixels of the first picture.
    pub(super) fn open(content: &'a [u8]) -> Result<Self, Error> {
        let mut options = DecodeOptions::new();
        options.set_color_output(ColorOutput::RGBA);
        let mut decoder = options.read_info(Cursor::new(content))?;
        let canvas = (decoder.width().into(), decoder.height().into());
        if canvas.0 == 0 || canvas.1 == 0 {
            return Err(Error::Unreadable);
        }
        let frame = decoder.next_frame_info()?.ok_or(Error::Unreadable)?;
        let (left, top) = (frame.left.into(), frame.top.into());
        let (width, height) = (frame.width.into(), frame.height.into());
        let is_interlaced = frame.interlaced;
        Ok(Self {
            decoder,
            canvas,
            left,
            top,
            width,
            height,
            is_interlaced,
        })
    }

    /// Returns the larger width and the larger height in pixels of the canvas and the picture,
    /// which may extend beyond the canvas.
    pub(super) fn size(&self) -> (u32, u32) {
        let (width, height) = self.canvas;
        (width.max(self.width), height.max(self.height))
    }

    /// Decodes the first picture to a small picture of the canvas.
    pub(super) fn shrink(mut self) -> Result<DynamicImage, Error> {
        let (width, height) = self.canvas;
        let passes: &[_] = if self.is_interlaced {
            &PASSES
        } else {
            &[Stride::ONE]
        };
        let mut reduction = Reduction::new(width, height);
        let mut line = vec![Rgba::default(); self.width as usize];
        for pass in passes {
            for row in pass.up_to(self.height) {
                // A pixel whose colour is in no palette keeps this value, which is transparent.
                line.fill(Rgba::default());
                if !self.decoder.fill_buffer(line.as_flattened_mut())? {
                    return Err(Error::Unreadable);
                }
                let columns = Stride::ONE.shifted(self.left);
                reduction.add(self.top + row, columns, line.iter().copied());
            }
        }
        Ok(upright(reduction.finish(), None))
    }
}
