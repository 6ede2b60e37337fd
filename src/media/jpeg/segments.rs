//! The segments of a JPEG. Source: ITU-T T.81, section B.1.

/// The first bytes of an application segment with Exif data.
const EXIF: &[u8] = b"Exif\0\0";

/// Markers. Source: ITU-T T.81, table B.1.
pub(super) mod marker {
    /// A baseline frame.
    pub(crate) const BASELINE: u8 = 0xc0;
    /// An extended sequential frame, which may have more tables.
    pub(crate) const EXTENDED: u8 = 0xc1;
    /// A progressive frame, whose scans refine each other.
    pub(crate) const PROGRESSIVE: u8 = 0xc2;
    /// Huffman tables.
    pub(crate) const HUFFMAN: u8 = 0xc4;
    /// The end of the image.
    pub(crate) const END: u8 = 0xd9;
    /// A scan.
    pub(crate) const SCAN: u8 = 0xda;
    /// Quantization tables.
    pub(crate) const QUANTIZATION: u8 = 0xdb;
    /// The restart interval.
    pub(crate) const RESTART_INTERVAL: u8 = 0xdd;
    /// Application data of JFIF.
    pub(crate) const JFIF: u8 = 0xe0;
    /// Application data of Exif.
    pub(crate) const EXIF: u8 = 0xe1;
    /// Application data of Adobe.
    pub(crate) const ADOBE: u8 = 0xee;
}

/// A marker with its segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment<'a> {
    pub(super) marker: u8,
    /// The bytes after the length.
    pub(super) payload: &'a [u8],
    /// The coded data that follows the segment of a scan; empty for all others.
    pub(super) coded: &'a [u8],
}

impl<'a> Segment<'a> {
    /// True for a frame of a supported kind. Others, such as arithmetic coding, are not supported.
    pub(super) fn is_frame(&self) -> bool {
        matches!(
            self.marker,
            marker::BASELINE | marker::EXTENDED | marker::PROGRESSIVE
        )
    }

    /// Returns the Exif data, if this segment has it.
    pub(super) fn exif(self) -> Option<&'a [u8]> {
        let is_exif = self.marker == marker::EXIF;
        is_exif.then(|| self.payload.strip_prefix(EXIF))?
    }
}

/// An iterator over the segments of a JPEG, up to its end or to a truncation.
#[derive(Debug, Clone)]
pub(super) struct Segments<'a>(&'a [u8]);

impl<'a> Segments<'a> {
    /// Creates the iterator for a file; `None` if the file does not begin as a JPEG.
    pub(super) fn of(content: &'a [u8]) -> Option<Self> {
        content.strip_prefix(b"\xff\xd8").map(Self)
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = Segment<'a>;

    /// Takes the next segment. Bytes between two segments are skipped, as in all decoders.
    fn next(&mut self) -> Option<Segment<'a>> {
        loop {
            let begin = self.0.iter().position(|byte| *byte == 0xff)?;
            let (_, from) = self.0.split_at_checked(begin)?;
            // Any number of fill bytes may precede the marker.
            let marker = from.iter().position(|byte| *byte != 0xff)?;
            let (_, from) = from.split_at_checked(marker)?;
            let (marker, rest) = from.split_first()?;
            self.0 = rest;
            match *marker {
                marker::END => return None,
                // These markers have no segment.
                0x00 | 0x01 | 0xd0..=0xd8 => {}
                marker => {
                    let (length, _) = rest.split_first_chunk()?;
                    let length = u16::from_be_bytes(*length).into();
                    let (segment, rest) = rest.split_at_checked(length)?;
                    let coded = if marker == marker::SCAN {
                        coded_length(rest)
                    } else {
                        0
                    };
                    let (coded, rest) = rest.split_at_checked(coded)?;
                    self.0 = rest;
                    return Some(Segment {
                        marker,
                        payload: segment.get(2..)?,
                        coded,
                    });
                }
            }
        }
    }
}

/// Returns the length of a scan's coded data, which ends before the first marker other than a
/// restart.
fn coded_length(data: &[u8]) -> usize {
    let is_end =
        |pair: &[u8]| matches!(pair, [0xff, next] if !matches!(next, 0x00 | 0xd0..=0xd7 | 0xff));
    data.windows(2).position(is_end).unwrap_or(data.len())
}
