//! The means (DC coefficients) of a JPEG's blocks, which are the picture at an eighth of its size.
//!
//! In a sequential JPEG the codes of the details are read and skipped. In a progressive one the
//! details are not even read, since they are in separate scans. So the time depends on the length
//! of the data, and not on the size that the file claims. The part of a picture without data is
//! grey; an invalid code is an error. Source: ITU-T T.81.

use image::RgbImage;

use super::huffman::{Bits, Table};
use super::segments::{Segment, Segments, marker};
use crate::media::Error;
use crate::media::reduction::{Reduction, Rgba, Stride};

/// 11 bits: the maximum for a difference of means, for samples of 8 bits. Source: ITU-T T.81, table
/// F.1.
const MAX_DIFFERENCE_BITS: u8 = 11;

/// The means of all blocks.
pub(super) struct Means {
    frame: Frame,
    colours: Colours,
}

/// The colour model of a picture's components.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Colours {
    Grey,
    YCbCr,
    Rgb,
    /// Inverted, as Adobe's programs and then all others have written it.
    Cmyk,
    /// CMYK, also inverted, with the first three components as `YCbCr`.
    Ycck,
}

/// The header of a picture, and its decoded data.
struct Frame {
    /// The size in pixels.
    width: u32,
    height: u32,
    is_progressive: bool,
    /// The largest sampling factors, horizontally and vertically.
    across: u32,
    down: u32,
    components: Vec<Component>,
}

/// One component, such as the brightness.
struct Component {
    id: u8,
    /// The sampling factors: the blocks in a unit (MCU), across and down.
    across: u32,
    down: u32,
    /// The index of its quantization table.
    table: usize,
    /// The quantization step of the means; `None` before its first scan.
    step: Option<i32>,
    /// The blocks across and down that belong to the picture.
    columns: u32,
    lines: u32,
    /// The mean of each block, row by row. A row has `stride` means. There are more rows and
    /// columns than the picture needs, since units are complete.
    means: Vec<i16>,
    stride: usize,
}

/// The tables and other data from the segments before a scan.
#[derive(Default)]
struct Tables {
    dc: [Option<Table>; 4],
    ac: [Option<Table>; 4],
    /// The first step of each quantization table.
    steps: [Option<i32>; 4],
    /// The number of units between two restarts; 0 for no restarts.
    restart_interval: u32,
    is_jfif: bool,
    /// The colour transform that Adobe's segment names.
    adobe: Option<u8>,
}

impl Means {
    /// Decodes the means of a JPEG.
    pub(super) fn decode(segments: Segments<'_>) -> Result<Self, Error> {
        let mut tables = Tables::default();
        let mut frame: Option<Frame> = None;
        for segment in segments {
            match (segment.marker, &mut frame) {
                (marker::SCAN, Some(frame)) => {
                    if let Some(scan) = Scan::read(&segment, frame, &tables)? {
                        scan.decode(frame, tables.restart_interval)?;
                    }
                }
                (_, None) if segment.is_frame() => frame = Some(Frame::read(&segment)?),
                _ => tables.read_segment(&segment).ok_or(Error::Unreadable)?,
            }
        }
        let frame = frame.ok_or(Error::Unreadable)?;
        if frame
            .components
            .iter()
            .all(|component| component.step.is_none())
        {
            return Err(Error::Unreadable);
        }
        Ok(Self {
            colours: tables.colours(&frame.components)?,
            frame,
        })
    }

    /// Creates the small picture.
    pub(super) fn shrink(self) -> RgbImage {
        let frame = &self.frame;
        let (width, height) = (frame.width.div_ceil(8), frame.height.div_ceil(8));
        let mut reduction = Reduction::new(width, height);
        for y in 0..height {
            let pixels = (0..width).map(|x| {
                let mut values = [0; 4];
                for (value, component) in values.iter_mut().zip(&frame.components) {
                    let column = x * component.across / frame.across;
                    *value = component.value(column, y * component.down / frame.down);
                }
                self.colours.of(values)
            });
            reduction.add(y, Stride::ONE, pixels);
        }
        reduction.finish()
    }
}

impl Frame {
    fn read(segment: &Segment<'_>) -> Result<Self, Error> {
        let &[8, y1, y2, x1, x2, count, ref components @ ..] = segment.payload else {
            return Err(Error::Unreadable);
        };
        let (components, _) = components.as_chunks();
        let components = components.get(..count.into()).ok_or(Error::Unreadable)?;
        let components: Vec<_> = components
            .iter()
            .map(|parameters| Component::read(*parameters))
            .collect();
        let largest = |factor: fn(&Component) -> u32| components.iter().map(factor).max();
        let across = largest(|component| component.across).unwrap_or(0);
        let down = largest(|component| component.down).unwrap_or(0);
        let are_valid = components.iter().all(|component| {
            (1..=4).contains(&component.across) && (1..=4).contains(&component.down)
        });
        let mut frame = Self {
            width: u16::from_be_bytes([x1, x2]).into(),
            height: u16::from_be_bytes([y1, y2]).into(),
            is_progressive: segment.marker == marker::PROGRESSIVE,
            across,
            down,
            components,
        };
        if frame.width == 0 || frame.height == 0 || !matches!(count, 1 | 3 | 4) || !are_valid {
            return Err(Error::Unreadable);
        }
        let (columns, rows) = frame.units();
        for component in &mut frame.components {
            let blocks =
                |side: u32, factor: u32, max: u32| (side * factor).div_ceil(max).div_ceil(8);
            component.columns = blocks(frame.width, component.across, across);
            component.lines = blocks(frame.height, component.down, down);
            component.stride = (columns * component.across) as usize;
            component.means = vec![0; component.stride * (rows * component.down) as usize];
        }
        Ok(frame)
    }

    /// Returns the number of units across and down. A unit has as many blocks of each component as
    /// its sampling factors say.
    fn units(&self) -> (u32, u32) {
        let (across, down) = (8 * self.across, 8 * self.down);
        (self.width.div_ceil(across), self.height.div_ceil(down))
    }
}

impl Component {
    /// Reads a component from the header, without blocks.
    fn read([id, factors, table]: [u8; 3]) -> Self {
        Self {
            id,
            across: u32::from(factors >> 4),
            down: u32::from(factors & 0xf),
            table: table.into(),
            step: None,
            columns: 0,
            lines: 0,
            means: vec![],
            stride: 0,
        }
    }

    /// Returns the value of a block, 0 to 255.
    fn value(&self, column: u32, line: u32) -> u8 {
        let mean = self
            .means
            .get(line as usize * self.stride + column as usize);
        let mean = i32::from(mean.copied().unwrap_or(0)) * self.step.unwrap_or(0);
        // A mean is stored as eight times its difference from 128.
        clamped(((mean + 4) >> 3) + 128)
    }
}

fn clamped(value: i32) -> u8 {
    u8::try_from(value.clamp(0, 255)).unwrap_or(u8::MAX)
}

impl Tables {
    /// Reads the tables or other data of a segment; `None` if it is malformed.
    fn read_segment(&mut self, segment: &Segment<'_>) -> Option<()> {
        let payload = segment.payload;
        match segment.marker {
            marker::HUFFMAN => self.read_huffman_tables(payload)?,
            marker::QUANTIZATION => self.read_quantization_tables(payload)?,
            marker::RESTART_INTERVAL => {
                self.restart_interval = u16::from_be_bytes(*payload.first_chunk()?).into();
            }
            marker::JFIF => self.is_jfif |= payload.starts_with(b"JFIF\0"),
            // The version and the flags precede the colour transform.
            marker::ADOBE if payload.starts_with(b"Adobe") => self.adobe = payload.get(11).copied(),
            _ => {}
        }
        Some(())
    }

    fn read_huffman_tables(&mut self, mut rest: &[u8]) -> Option<()> {
        while let Some((class_and_id, tail)) = rest.split_first() {
            let (counts, tail) = tail.split_first_chunk()?;
            let count = counts.iter().map(|count| usize::from(*count)).sum();
            let (symbols, tail) = tail.split_at_checked(count)?;
            let tables = match class_and_id >> 4 {
                0 => &mut self.dc,
                1 => &mut self.ac,
                _ => return None,
            };
            *tables.get_mut(usize::from(class_and_id & 0xf))? = Some(Table::new(counts, symbols)?);
            rest = tail;
        }
        Some(())
    }

    fn read_quantization_tables(&mut self, mut rest: &[u8]) -> Option<()> {
        while let Some((precision_and_id, tail)) = rest.split_first() {
            let (step, length) = match precision_and_id >> 4 {
                0 => (i32::from(*tail.first()?), 64),
                1 => (i32::from(u16::from_be_bytes(*tail.first_chunk()?)), 128),
                _ => return None,
            };
            *self.steps.get_mut(usize::from(precision_and_id & 0xf))? = Some(step);
            rest = tail.get(length..)?;
        }
        Some(())
    }

    fn colours(&self, components: &[Component]) -> Result<Colours, Error> {
        let ids: Vec<_> = components.iter().map(|component| component.id).collect();
        match (ids.len(), self.adobe) {
            (1, _) => Ok(Colours::Grey),
            (3, _) if self.is_jfif => Ok(Colours::YCbCr),
            (3, Some(0)) => Ok(Colours::Rgb),
            (3, None) if ids == b"RGB" => Ok(Colours::Rgb),
            (3, _) => Ok(Colours::YCbCr),
            (4, Some(2)) => Ok(Colours::Ycck),
            (4, _) => Ok(Colours::Cmyk),
            _ => Err(Error::Unreadable),
        }
    }
}

impl Colours {
    /// Converts the values of the components to a pixel.
    fn of(self, [first, second, third, black]: [u8; 4]) -> Rgba {
        let over_black = |value: u8| clamped(i32::from(value) * i32::from(black) / 255);
        let [r, g, b] = match self {
            Self::Grey => [first; 3],
            Self::YCbCr => ycbcr_to_rgb(first, second, third),
            Self::Rgb => [first, second, third],
            Self::Cmyk => [first, second, third].map(over_black),
            Self::Ycck => {
                ycbcr_to_rgb(first, second, third).map(|value| over_black(u8::MAX - value))
            }
        };
        [r, g, b, u8::MAX]
    }
}

/// Converts `YCbCr` to RGB. Source: ITU-T T.871, section 7, in units of 1/65,536.
fn ycbcr_to_rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let y = i32::from(y) << 16;
    let (cb, cr) = (i32::from(cb) - 128, i32::from(cr) - 128);
    let rounded = |value: i32| clamped((value + (1 << 15)) >> 16);
    [
        rounded(y + 91_881 * cr),
        rounded(y - 22_554 * cb - 46_802 * cr),
        rounded(y + 116_130 * cb),
    ]
}

/// The part of each mean that a scan contains.
#[derive(Clone, Copy)]
enum ScanContent {
    /// The whole mean, followed by details that are skipped.
    Sequential,
    /// The mean without this number of its lowest bits.
    First { missing_bits: u32 },
    /// One more bit of the mean, below which this number of bits is still missing.
    Refinement { missing_bits: u32 },
}

/// A component's part of a scan.
struct Part<'a> {
    /// The component's index in the frame.
    component: usize,
    /// The blocks of the component in a unit of the scan, across and down.
    across: u32,
    down: u32,
    dc: Option<&'a Table>,
    ac: Option<&'a Table>,
    /// The previous mean. The next one is coded as a difference from it.
    previous: i16,
}

/// A scan that is being decoded.
struct Scan<'a> {
    parts: Vec<Part<'a>>,
    content: ScanContent,
    /// The number of units across and down.
    units: (u32, u32),
    bits: Bits<'a>,
}

impl<'a> Scan<'a> {
    /// Reads the header of a scan; `None` if the scan has only details.
    fn read(
        segment: &Segment<'a>,
        frame: &mut Frame,
        tables: &'a Tables,
    ) -> Result<Option<Self>, Error> {
        let (count, rest) = segment.payload.split_first().ok_or(Error::Unreadable)?;
        let rest = rest.split_at_checked(2 * usize::from(*count));
        let Some((selectors, &[first_coefficient, _, approximation, ..])) = rest else {
            return Err(Error::Unreadable);
        };
        let missing_bits = (approximation & 0xf).into();
        let content = match (frame.is_progressive, first_coefficient, approximation >> 4) {
            (false, _, _) => ScanContent::Sequential,
            (true, 0, 0) => ScanContent::First { missing_bits },
            (true, 0, _) => ScanContent::Refinement { missing_bits },
            (true, _, _) => return Ok(None),
        };
        let (selectors, _) = selectors.as_chunks();
        let mut parts = Vec::with_capacity(selectors.len());
        for selector in selectors {
            parts.push(Part::read(*selector, frame, tables)?);
        }
        let units = match parts.as_mut_slice() {
            [] => return Err(Error::Unreadable),
            // The blocks of a single component come row by row, and only those that belong to the
            // picture.
            [part] => {
                (part.across, part.down) = (1, 1);
                let component = frame.components.get(part.component);
                component.map_or((0, 0), |component| (component.columns, component.lines))
            }
            _ => frame.units(),
        };
        Ok(Some(Self {
            parts,
            content,
            units,
            bits: Bits::of(segment.coded),
        }))
    }

    /// Decodes the scan into the frame.
    fn decode(mut self, frame: &mut Frame, restart_interval: u32) -> Result<(), Error> {
        let (columns, rows) = self.units;
        let count = columns * rows;
        let mut first: u32 = 0;
        loop {
            let end = match restart_interval {
                0 => count,
                interval => count.min(first.saturating_add(interval)),
            };
            // After data that ends too early, the rest of the interval is skipped at once. So the
            // time depends on the length of the data, not on the interval that the file declares.
            for unit in first..end {
                if self.read_unit(frame, unit % columns, unit / columns)? {
                    break;
                }
            }
            if end == count || !self.bits.restart() {
                return Ok(());
            }
            self.parts.iter_mut().for_each(|part| part.previous = 0);
            first = end;
        }
    }

    /// Reads the blocks of a unit; returns true if the data ended too early.
    fn read_unit(&mut self, frame: &mut Frame, column: u32, row: u32) -> Result<bool, Error> {
        for part in &mut self.parts {
            let component = frame.components.get_mut(part.component);
            let component = component.ok_or(Error::Unreadable)?;
            for block in 0..part.across * part.down {
                let column = column * part.across + block % part.across;
                let row = row * part.down + block / part.across;
                let index = row as usize * component.stride + column as usize;
                let mean = component.means.get_mut(index).ok_or(Error::Unreadable)?;
                match part.read_block(&mut self.bits, self.content, *mean) {
                    Ok(_) if self.bits.is_overrun() => return Ok(true),
                    Ok(sum) => *mean = sum,
                    Err(_) if self.bits.is_exhausted() => return Ok(true),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(false)
    }
}

impl<'a> Part<'a> {
    fn read(
        [id, table_ids]: [u8; 2],
        frame: &mut Frame,
        tables: &'a Tables,
    ) -> Result<Self, Error> {
        let mut components = frame.components.iter_mut().enumerate();
        let found = components.find(|(_, component)| component.id == id);
        let (index, component) = found.ok_or(Error::Unreadable)?;
        if component.step.is_none() {
            let step = tables.steps.get(component.table).copied().flatten();
            component.step = Some(step.ok_or(Error::Unreadable)?);
        }
        Ok(Self {
            component: index,
            across: component.across,
            down: component.down,
            dc: table_at(&tables.dc, table_ids >> 4),
            ac: table_at(&tables.ac, table_ids & 0xf),
            previous: 0,
        })
    }

    /// Reads the scan's part of a mean; returns the new value of the mean.
    fn read_block(
        &mut self,
        bits: &mut Bits<'_>,
        content: ScanContent,
        mean: i16,
    ) -> Result<i16, Error> {
        match content {
            ScanContent::Sequential => {
                self.read_mean(bits)?;
                skip_details(self.ac.ok_or(Error::Unreadable)?, bits)?;
                Ok(self.previous)
            }
            ScanContent::First { missing_bits } => {
                self.read_mean(bits)?;
                Ok(self.previous.wrapping_shl(missing_bits))
            }
            ScanContent::Refinement { missing_bits } => {
                let bit = i16::from(bits.take(1) == 1);
                Ok(mean | bit.wrapping_shl(missing_bits))
            }
        }
    }

    fn read_mean(&mut self, bits: &mut Bits<'_>) -> Result<(), Error> {
        let size = self.dc.ok_or(Error::Unreadable)?.read(bits)?;
        if size > MAX_DIFFERENCE_BITS {
            return Err(Error::Unreadable);
        }
        let difference = bits.take_signed(size.into());
        self.previous = self.previous.wrapping_add(difference);
        Ok(())
    }
}

/// Returns the table with this index.
fn table_at(tables: &[Option<Table>; 4], index: u8) -> Option<&Table> {
    tables.get(usize::from(index)).and_then(Option::as_ref)
}

/// Skips the 63 details of a block. Source: ITU-T T.81, section F.2.2.2.
fn skip_details(table: &Table, bits: &mut Bits<'_>) -> Result<(), Error> {
    let mut index = 1;
    while index < 64 {
        let symbol = table.read(bits)?;
        let (zeros, size) = (symbol >> 4, symbol & 0xf);
        // The end-of-block symbol: the rest of the block is zero.
        if size == 0 && zeros < 15 {
            break;
        }
        index += zeros + 1;
        bits.take(size.into());
    }
    Ok(())
}
