//! JPEGs of any size that cost almost nothing to make: each block of 8 by 8 pixels has one
//! brightness, by a pattern.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "numbers of a file that is written bit by bit"
)]

/// The properties of a JPEG.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Jpeg {
    /// In pixels.
    pub(crate) width: u16,
    /// In pixels.
    pub(crate) height: u16,
    pub(crate) is_progressive: bool,
    pub(crate) colours: Colours,
    /// The number of block units between two restart markers, at which decoders can resume. 0 for
    /// no markers.
    pub(crate) restarts: u16,
    /// Returns the brightness, 0 to 255, of the block in this column and row.
    pub(crate) brightness: fn(u32, u32) -> u8,
}

/// The components of a picture, with their sampling factors.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Colours {
    /// Brightness only.
    Grey,
    /// Colours at a quarter of the size, as most cameras make them.
    Quarter,
    /// Colours at the full size.
    Full,
}

impl Colours {
    /// Returns the sampling factors across and down.
    fn factors(self) -> &'static [(u32, u32)] {
        match self {
            Self::Grey => &[(1, 1)],
            Self::Quarter => &[(2, 2), (1, 1), (1, 1)],
            Self::Full => &[(1, 1), (1, 1), (1, 1)],
        }
    }
}

impl Jpeg {
    /// Writes the file.
    pub(crate) fn write(self) -> Vec<u8> {
        let mut file = vec![0xff, 0xd8];
        // Every quantization step is 8, so the mean of a block is its brightness minus 128.
        segment(&mut file, 0xdb, &[&[0][..], &[8; 64]].concat());
        // The size of a difference of means, 0 to 11 bits, has a code of four bits. The end of a
        // block has a code of one bit.
        let sizes: Vec<u8> = (0..12).collect();
        segment(
            &mut file,
            0xc4,
            &[&[0x00, 0, 0, 0, 12], &[0; 12][..], &sizes].concat(),
        );
        segment(&mut file, 0xc4, &[&[0x10, 1], &[0; 15][..], &[0]].concat());
        let factors = self.colours.factors();
        let ids: Vec<u8> = (1..).take(factors.len()).collect();
        let (height, width) = (self.height.to_be_bytes(), self.width.to_be_bytes());
        let mut frame = [&[8], &height[..], &width, &[ids.len() as u8]].concat();
        for (id, (across, down)) in ids.iter().zip(factors) {
            frame.extend([*id, (across << 4 | down) as u8, 0]);
        }
        let marker = if self.is_progressive { 0xc2 } else { 0xc0 };
        segment(&mut file, marker, &frame);
        segment(&mut file, 0xdd, &self.restarts.to_be_bytes());
        if self.is_progressive {
            // Three scans: the means without their last bit, that bit, and the details of each
            // component, which are empty.
            scan(&mut file, &ids, [0, 0, 0x01], self.means(1));
            scan(&mut file, &ids, [0, 0, 0x10], self.last_bits());
            for (id, factors) in ids.iter().zip(factors) {
                scan(&mut file, &[*id], [1, 63, 0], self.no_details(*factors));
            }
        } else {
            scan(&mut file, &ids, [0, 63, 0], self.means(0));
        }
        file.extend([0xff, 0xd9]);
        file
    }

    /// Calls `call` for each block with its component and mean, in the order of the file. A restart
    /// is a call with `None`.
    fn each_block(self, mut call: impl FnMut(Option<(usize, i32)>)) {
        let factors = self.colours.factors();
        let (across, down) = factors[0];
        let units = |side: u16, factor: u32| u32::from(side).div_ceil(8 * factor);
        let mut until_restart = u32::from(self.restarts);
        for y in 0..units(self.height, down) {
            for x in 0..units(self.width, across) {
                if self.restarts > 0 && until_restart == 0 {
                    call(None);
                    until_restart = self.restarts.into();
                }
                until_restart = until_restart.saturating_sub(1);
                for block in 0..across * down {
                    let (column, row) = (x * across + block % across, y * down + block / across);
                    call(Some((0, i32::from((self.brightness)(column, row)) - 128)));
                }
                for component in 1..factors.len() {
                    call(Some((component, 0)));
                }
            }
        }
    }

    /// Encodes the means without the given number of last bits. In a baseline picture, each block
    /// has an end code.
    fn means(self, without: u8) -> Bits {
        let mut bits = Bits::default();
        let mut former = [0; 3];
        self.each_block(|block| {
            let Some((component, mean)) = block else {
                former = [0; 3];
                bits.restart();
                return;
            };
            let mean = mean >> without;
            let difference = mean - former[component];
            former[component] = mean;
            let size = 32 - difference.unsigned_abs().leading_zeros();
            bits.push(size, 4);
            // A negative difference is encoded as the low bits of the difference minus one.
            let code = if difference < 0 {
                difference - 1
            } else {
                difference
            };
            bits.push(code as u32 & ((1 << size) - 1), size);
            if !self.is_progressive {
                bits.push(0, 1);
            }
        });
        bits
    }

    fn last_bits(self) -> Bits {
        let mut bits = Bits::default();
        self.each_block(|block| match block {
            Some((_, mean)) => bits.push((mean & 1) as u32, 1),
            None => bits.restart(),
        });
        bits
    }

    fn no_details(self, (across, down): (u32, u32)) -> Bits {
        let (most_across, most_down) = self.colours.factors()[0];
        let blocks = |side: u16, factor: u32, most: u32| {
            (u32::from(side) * factor).div_ceil(most).div_ceil(8)
        };
        let mut bits = Bits::default();
        let count = blocks(self.width, across, most_across) * blocks(self.height, down, most_down);
        for block in 0..count {
            if self.restarts > 0 && block > 0 && block % u32::from(self.restarts) == 0 {
                bits.restart();
            }
            bits.push(0, 1);
        }
        bits
    }
}

/// Appends a segment.
pub(crate) fn segment(file: &mut Vec<u8>, marker: u8, payload: &[u8]) {
    file.extend([0xff, marker]);
    file.extend((payload.len() as u16 + 2).to_be_bytes());
    file.extend(payload);
}

/// Appends a scan of the components with these ids, with the first and last coefficient and the
/// bits of the approximation.
fn scan(file: &mut Vec<u8>, ids: &[u8], [first, last, bits]: [u8; 3], data: Bits) {
    let ids_and_tables = ids.iter().flat_map(|id| [*id, 0]);
    let mut head = vec![ids.len() as u8];
    head.extend(ids_and_tables);
    head.extend([first, last, bits]);
    segment(file, 0xda, &head);
    file.extend(data.finish());
}

/// Bits; the first bit of each byte is the highest.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    pending: u32,
    count: u32,
    restarts: u8,
}

impl Bits {
    fn push(&mut self, value: u32, count: u32) {
        self.pending = self.pending << count | value;
        self.count += count;
        while self.count >= 8 {
            self.count -= 8;
            let byte = (self.pending >> self.count) as u8;
            self.bytes.push(byte);
            if byte == 0xff {
                // The zero distinguishes the byte from a marker.
                self.bytes.push(0);
            }
        }
    }

    /// Fills the last byte with ones.
    fn align(&mut self) {
        self.push(0x7f, 7);
        (self.pending, self.count) = (0, 0);
    }

    /// Writes a restart marker; eight markers take turns.
    fn restart(&mut self) {
        self.align();
        self.bytes.extend([0xff, 0xd0 + self.restarts % 8]);
        self.restarts = self.restarts.wrapping_add(1);
    }

    fn finish(mut self) -> Vec<u8> {
        self.align();
        self.bytes
    }
}
