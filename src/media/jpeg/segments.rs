//! The segments that a JPEG consists of. Source: ITU-T T.81, section B.1.

/// What the data of an application begins with where it is Exif.
const EXIF: &[u8] = b"Exif\0\0";

/// Markers. Source: ITU-T T.81, table B.1.
pub(super) mod marker {
    /// A frame of the simplest kind.
    pub(crate) const BASELINE: u8 = 0xc0;
    /// A frame that may have more tables.
    pub(crate) const EXTENDED: u8 = 0xc1;
    /// A frame whose scans refine each other.
    pub(crate) const PROGRESSIVE: u8 = 0xc2;
    /// Huffman tables.
    pub(crate) const HUFFMAN: u8 = 0xc4;
    /// The end of the image.
    pub(crate) const END: u8 = 0xd9;
    /// A scan.
    pub(crate) const SCAN: u8 = 0xda;
    /// Quantization tables.
    pub(crate) const QUANTIZATION: u8 = 0xdb;
    /// The interval of restarts.
    pub(crate) const RESTARTS: u8 = 0xdd;
    /// Data of applications, of which this is JFIF's,
    pub(crate) const JFIF: u8 = 0xe0;
    /// this is Exif's,
    pub(crate) const EXIF: u8 = 0xe1;
    /// and this is Adobe's.
    pub(crate) const ADOBE: u8 = 0xee;
}

/// A marker with its segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment<'a> {
    pub(super) marker: u8,
    /// The bytes behind the length.
    pub(super) payload: &'a [u8],
    /// The coded data that follows on the segment of a scan, and on no other.
    pub(super) coded: &'a [u8],
}

impl<'a> Segment<'a> {
    /// True for a frame of a kind that is decoded; there are others, such as arithmetic coding.
    pub(super) fn is_frame(&self) -> bool {
        matches!(
            self.marker,
            marker::BASELINE | marker::EXTENDED | marker::PROGRESSIVE
        )
    }

    /// The Exif data, if this segment has it.
    pub(super) fn exif(self) -> Option<&'a [u8]> {
        let is_exif = self.marker == marker::EXIF;
        is_exif.then(|| self.payload.strip_prefix(EXIF))?
    }
}

/// The segments of a JPEG, up to its end or where it breaks off.
#[derive(Debug, Clone)]
pub(super) struct Segments<'a>(&'a [u8]);

impl<'a> Segments<'a> {
    /// The segments of a file; `None` if it does not begin as a JPEG does.
    pub(super) fn of(content: &'a [u8]) -> Option<Self> {
        content.strip_prefix(b"\xff\xd8").map(Self)
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = Segment<'a>;

    /// Takes the next segment off the front. What stands between two of them is passed over, as all
    /// decoders do.
    fn next(&mut self) -> Option<Segment<'a>> {
        loop {
            let begin = self.0.iter().position(|byte| *byte == 0xff)?;
            let (_, from) = self.0.split_at_checked(begin)?;
            // Any number of fill bytes may stand before the marker.
            let marker = from.iter().position(|byte| *byte != 0xff)?;
            let (_, from) = from.split_at_checked(marker)?;
            let (marker, behind) = from.split_first()?;
            self.0 = behind;
            match *marker {
                marker::END => return None,
                // These stand alone.
                0x00 | 0x01 | 0xd0..=0xd8 => {}
                marker => {
                    let (length, _) = behind.split_first_chunk()?;
                    let length = u16::from_be_bytes(*length).into();
                    let (segment, behind) = behind.split_at_checked(length)?;
                    let coded = if marker == marker::SCAN {
                        coded_length(behind)
                    } else {
                        0
                    };
                    let (coded, behind) = behind.split_at_checked(coded)?;
                    self.0 = behind;
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

/// The length of a scan's coded data, which ends before the first marker that is no restart.
fn coded_length(data: &[u8]) -> usize {
    let is_end =
        |pair: &[u8]| matches!(pair, [0xff, next] if !matches!(next, 0x00 | 0xd0..=0xd7 | 0xff));
    data.windows(2).position(is_end).unwrap_or(data.len())
}
