//! A small picture of at most 200 pixels a side, into which the rows of a large one are averaged in
//! any order.
//!
//! Each of its pixels is the mean of the pixels that it covers, on a white background. Transparent
//! pixels, and pixels that no row covers, are white.

use image::RgbImage;

/// 200 pixels: the longer side of the largest preview. The box is square, because width and height
/// are known only after the picture is rotated as its Exif data says.
pub(super) const BOX: u32 = 200;

/// A pixel with its opacity.
pub(super) type Rgba = [u8; 4];

/// Every `step`th position of a side from `first` on. The passes of an interlaced picture have
/// their pixels at such positions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stride {
    first: u32,
    step: u32,
}

impl Stride {
    /// All positions.
    pub(super) const ONE: Self = Self::new(0, 1);

    pub(super) const fn new(first: u32, step: u32) -> Self {
        Self { first, step }
    }

    /// Returns the same positions, moved by an offset.
    pub(super) fn shifted(self, by: u32) -> Self {
        Self::new(self.first + by, self.step)
    }

    /// Returns the positions on a side of this length.
    pub(super) fn up_to(self, length: u32) -> impl Iterator<Item = u32> {
        (self.first..length).step_by(self.step as usize)
    }

    /// Returns the items at these positions.
    fn of<T>(self, items: &[T]) -> impl Iterator<Item = &T> {
        let items = items.get(self.first as usize..).unwrap_or_default();
        items.iter().step_by(self.step as usize)
    }
}

/// A small picture under construction.
pub(super) struct Reduction {
    width: u32,
    height: u32,
    columns: Division,
    rows: Division,
    /// For each pixel, the summed difference from white of the pixels that it covers. Of 67
    /// megapixels a pixel covers at most about 340,000, so no sum comes near the maximum of its
    /// type.
    ink: Vec<[u32; 3]>,
}

impl Reduction {
    /// Creates a white picture for an original of this size in pixels.
    pub(super) fn new(width: u32, height: u32) -> Self {
        let longer = width.max(height);
        let scaled = |side: u32| {
            if longer > BOX {
                ((side * BOX + longer / 2) / longer).max(1)
            } else {
                side
            }
        };
        let (small_width, small_height) = (scaled(width), scaled(height));
        Self {
            width: small_width,
            height: small_height,
            columns: Division::new(width, small_width),
            rows: Division::new(height, small_height),
            ink: vec![[0; 3]; (small_width * small_height) as usize],
        }
    }

    /// Adds pixels of a row. Pixels outside of the picture are ignored.
    pub(super) fn add(&mut self, row: u32, columns: Stride, pixels: impl Iterator<Item = Rgba>) {
        let width = self.width as usize;
        let row = self.rows.parts.get(row as usize);
        let small = row.and_then(|row| self.ink.chunks_exact_mut(width).nth(*row));
        let Some(small) = small else {
            return;
        };
        let columns = columns.of(&self.columns.parts);
        for (column, [r, g, b, opacity]) in columns.zip(pixels) {
            let Some([red, green, blue]) = small.get_mut(*column) else {
                return;
            };
            *red += ink(r, opacity);
            *green += ink(g, opacity);
            *blue += ink(b, opacity);
        }
    }

    /// Returns the picture of all pixels that were added.
    pub(super) fn finish(self) -> RgbImage {
        let sizes = self.rows.sizes.iter();
        let sizes =
            sizes.flat_map(|rows| self.columns.sizes.iter().map(move |columns| rows * columns));
        let pixels = self.ink.iter().zip(sizes).flat_map(|(ink, size)| {
            let mean = |sum: u32| u8::try_from((sum + size / 2) / size).unwrap_or(u8::MAX);
            ink.map(|sum| u8::MAX - mean(sum))
        });
        let pixels = pixels.collect();
        RgbImage::from_raw(self.width, self.height, pixels).unwrap_or_default()
    }
}

/// Returns the difference from white of a value with this opacity on a white background.
fn ink(value: u8, opacity: u8) -> u32 {
    u32::from(u8::MAX - value) * u32::from(opacity) / u32::from(u8::MAX)
}

/// A side of the original, divided into as many parts as the small picture has pixels there.
struct Division {
    /// The part that each position belongs to.
    parts: Vec<usize>,
    /// The number of positions in each part.
    sizes: Vec<u32>,
}

impl Division {
    fn new(side: u32, parts: u32) -> Self {
        let mut sizes = vec![0; parts as usize];
        let parts: Vec<_> = (0..side).map(|at| (at * parts / side) as usize).collect();
        for part in &parts {
            if let Some(size) = sizes.get_mut(*part) {
                *size += 1;
            }
        }
        Self { parts, sizes }
    }
}

#[cfg(test)]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "patterns of pixels, which may well repeat"
)]
mod tests {
    use image::Rgb;
    use proptest::prelude::*;

    use super::*;

    /// Returns the small picture of an original with this value at each position.
    fn reduced(width: u32, height: u32, value: impl Fn(u32, u32) -> Rgba) -> RgbImage {
        let mut reduction = Reduction::new(width, height);
        for row in 0..height {
            let pixels = (0..width).map(|column| value(column, row));
            reduction.add(row, Stride::ONE, pixels);
        }
        reduction.finish()
    }

    #[test]
    fn a_small_picture_stays_as_it_is() {
        let picture = reduced(200, 3, |x, y| [x as u8, y as u8, 7, 255]);

        let expected = RgbImage::from_fn(200, 3, |x, y| Rgb([x as u8, y as u8, 7]));
        assert_eq!(picture, expected);
    }

    #[test]
    fn a_large_picture_is_averaged() {
        let picture = reduced(400, 200, |x, y| {
            [(x % 2 * 100) as u8, (y % 2 * 50) as u8, 9, 255]
        });

        assert_eq!(picture, RgbImage::from_pixel(200, 100, Rgb([50, 25, 9])));
    }

    #[test]
    fn transparent_or_missing_pixels_become_white() {
        let mut reduction = Reduction::new(400, 400);
        for row in 0..400 {
            let pixels = (0..200).map(|column| [0, 0, 0, (column / 100 * 255) as u8]);
            reduction.add(row, Stride::ONE.shifted(100), pixels);
        }
        // Outside of the picture.
        reduction.add(400, Stride::ONE, std::iter::repeat_n([0, 0, 0, 255], 400));
        reduction.add(
            0,
            Stride::ONE.shifted(399),
            std::iter::repeat_n([255; 4], 400),
        );
        let picture = reduction.finish();

        for (column, expected) in [(0, 255), (99, 255), (100, 0), (149, 0), (150, 255)] {
            assert_eq!(
                picture.get_pixel(column, 100),
                &Rgb([expected; 3]),
                "{column}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_picture_of_one_colour_keeps_its_colour(width in 1..2000_u32, height in 1..20_u32, colour: [u8; 3], turned: bool) {
            let (width, height) = if turned { (height, width) } else { (width, height) };
            let [r, g, b] = colour;

            let picture = reduced(width, height, |_, _| [r, g, b, 255]);

            prop_assert!(picture.width().max(picture.height()) == width.max(height).min(200));
            prop_assert!(picture.pixels().all(|pixel| pixel.0 == colour));
        }

        #[test]
        fn interlaced_passes_give_the_same_picture_as_rows(width in 1..250_u32, height in 1..250_u32) {
            let value = |x: u32, y: u32| [(x * 7) as u8, (y * 3) as u8, (x * y) as u8, 255];
            let mut reduction = Reduction::new(width, height);
            for (columns, rows) in crate::media::png::ADAM7 {
                for row in rows.up_to(height) {
                    reduction.add(row, columns, columns.up_to(width).map(|column| value(column, row)));
                }
            }

            prop_assert_eq!(reduction.finish(), reduced(width, height, value));
        }
    }
}
