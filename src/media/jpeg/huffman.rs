//! Huffman codes, and the bit reader for them. Source: ITU-T T.81, annexes C and F.

use crate::media::Error;

/// The number of bits that are looked up at once. Longer codes are rare and are found by a search.
const LOOKUP_BITS: u8 = 8;

/// A table of Huffman codes.
pub(super) struct Table {
    /// For each value of the next 8 bits, the length and the symbol of the code that they begin
    /// with. A length of 0 means a longer code.
    lookup: [(u8, u8); 1 << LOOKUP_BITS],
    /// The codes of each length, from 1 to 16 bits.
    lengths: [Length; 16],
    symbols: Vec<u8>,
}

#[derive(Clone, Copy, Default)]
struct Length {
    /// The exclusive upper bound of the 16-bit numbers that begin with a code of this length or a
    /// shorter one.
    end: u32,
    /// The first code of this length, as a number.
    first: u32,
    /// The index of the first code's symbol.
    index: u32,
}

impl Table {
    /// Creates a table with these counts of codes per length, and these symbols in order. Returns
    /// `None` if there cannot be that many codes.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let mut lookup = [(0, 0); 1 << LOOKUP_BITS];
        let mut lengths = [Length::default(); 16];
        let (mut code, mut index) = (0_u32, 0_u32);
        for (bits, (count, length)) in (1_u8..).zip(counts.iter().zip(&mut lengths)) {
            code <<= 1;
            let count = u32::from(*count);
            if code + count > 1 << bits {
                return None;
            }
            *length = Length {
                end: (code + count) << (16 - bits),
                first: code,
                index,
            };
            if bits <= LOOKUP_BITS {
                let symbols = symbols.get(index as usize..(index + count) as usize)?;
                // A code of `bits` bits covers one entry for each combination of the bits that
                // follow it.
                let span = 1 << (LOOKUP_BITS - bits);
                let entries = lookup.chunks_exact_mut(span).skip(code as usize);
                for (entries, symbol) in entries.zip(symbols) {
                    entries.fill((bits, *symbol));
                }
            }
            code += count;
            index += count;
        }
        let symbols = symbols.get(..index as usize)?.to_vec();
        Some(Self {
            lookup,
            lengths,
            symbols,
        })
    }

    /// Reads a code and returns its symbol.
    ///
    /// # Errors
    ///
    /// If the bits are not a code.
    pub(super) fn read(&self, bits: &mut Bits<'_>) -> Result<u8, Error> {
        let next = u32::from(bits.peek(16));
        let entry = self.lookup.get((next >> (16 - LOOKUP_BITS)) as usize);
        if let Some((length @ 1.., symbol)) = entry {
            bits.skip((*length).into());
            return Ok(*symbol);
        }
        let found = (1..)
            .zip(&self.lengths)
            .find(|(_, length)| next < length.end);
        let (count, length) = found.ok_or(Error::Unreadable)?;
        let index = length.index + (next >> (16 - count)) - length.first;
        let symbol = self.symbols.get(index as usize).ok_or(Error::Unreadable)?;
        bits.skip(count);
        Ok(*symbol)
    }
}

/// A reader of the bits of a scan's coded data. A byte 0xff of the data is followed by 0x00. Before
/// any other byte, 0xff begins a marker.
pub(super) struct Bits<'a> {
    data: &'a [u8],
    /// The next bits, with the first one in the highest position. After the end of the data they
    /// are zeros.
    buffer: u64,
    /// The number of bits in `buffer` that come from the data.
    count: u32,
    is_overrun: bool,
}

impl<'a> Bits<'a> {
    pub(super) fn of(data: &'a [u8]) -> Self {
        Self {
            data,
            buffer: 0,
            count: 0,
            is_overrun: false,
        }
    }

    /// Returns the next bits, up to 16, as a number.
    fn peek(&mut self, count: u32) -> u16 {
        while self.count <= 56 {
            let (byte, rest) = match self.data {
                [0xff, 0x00, rest @ ..] => (0xff, rest),
                [0xff, ..] | [] => break,
                [byte, rest @ ..] => (*byte, rest),
            };
            self.data = rest;
            self.buffer |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
        // In two steps, since a shift by all 64 bits at once is not possible.
        u16::try_from(self.buffer >> 48 >> (16 - count)).unwrap_or_default()
    }

    /// Skips up to 16 bits.
    fn skip(&mut self, count: u32) {
        self.is_overrun |= count > self.count;
        self.buffer <<= count;
        self.count = self.count.saturating_sub(count);
    }

    /// Takes up to 16 bits as a number.
    pub(super) fn take(&mut self, count: u32) -> u16 {
        let bits = self.peek(count);
        self.skip(count);
        bits
    }

    /// Takes a signed number of up to 15 bits. The first bit of a negative number is zero. Source:
    /// ITU-T T.81, table F.1.
    pub(super) fn take_signed(&mut self, count: u32) -> i16 {
        let value = i32::from(self.take(count));
        let is_negative = count > 0 && value < 1 << (count - 1);
        let value = if is_negative {
            value - (1 << count) + 1
        } else {
            value
        };
        i16::try_from(value).unwrap_or_default()
    }

    /// True if more bits were read than exist, or too few are left to recognize an invalid code.
    pub(super) fn is_exhausted(&self) -> bool {
        let has_more = self.count >= 16 || matches!(self.data, [0xff, 0x00, ..] | [0..=0xfe, ..]);
        self.is_overrun || !has_more
    }

    /// True if more bits were read than exist.
    pub(super) fn is_overrun(&self) -> bool {
        self.is_overrun
    }

    /// Continues after the next restart marker; returns false if there is none.
    pub(super) fn restart(&mut self) -> bool {
        let is_restart = |pair: &[u8]| matches!(pair, [0xff, 0xd0..=0xd7]);
        let Some(marker) = self.data.windows(2).position(is_restart) else {
            return false;
        };
        *self = Self::of(self.data.get(marker + 2..).unwrap_or_default());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huffman_codes_of_different_lengths_are_read() {
        // The codes are 0, 10, 110, 1110000000000 and 1110000000001.
        let mut counts = [0; 16];
        counts[..3].copy_from_slice(&[1, 1, 1]);
        counts[12] = 2;
        let table = Table::new(&counts, &[7, 8, 9, 10, 11]).unwrap();
        let mut bits = Bits::of(&[0b0101_1011, 0b1000_0000, 0b0001_1100, 0b0000_0001]);

        let read: Vec<_> = (0..5).map(|_| table.read(&mut bits).unwrap()).collect();

        assert_eq!(read, [7, 8, 9, 10, 11]);
        assert!(!bits.is_overrun());
        // 110 followed by ones is not a code.
        let mut bits = Bits::of(&[0b1111_0000, 0, 0]);
        assert!(table.read(&mut bits).is_err() && !bits.is_exhausted());
    }

    #[test]
    fn tables_of_too_many_codes_or_too_few_symbols_are_refused() {
        let mut counts = [0; 16];
        counts[0] = 3;
        assert!(Table::new(&counts, &[1, 2, 3]).is_none());
        counts[0] = 2;
        assert!(Table::new(&counts, &[1]).is_none());
        assert!(Table::new(&counts, &[1, 2]).is_some());
        assert!(Table::new(&[0; 16], &[]).is_some());
    }

    #[test]
    fn the_first_bit_of_a_number_decides_its_sign() {
        let mut bits = Bits::of(&[0b1011_0001, 0b1111_0000]);

        let read: Vec<_> = [1, 1, 2, 2, 2, 8, 0]
            .map(|count| bits.take_signed(count))
            .into();

        assert_eq!(read, [1, -1, 3, -3, -2, 240, 0]);
    }

    #[test]
    fn a_marker_ends_the_bits_and_a_restart_resumes_after_it() {
        let mut bits = Bits::of(&[0xff, 0x00, 0x12, 0xff, 0xd0, 0x34]);

        assert_eq!(bits.take(16), 0xff12);
        assert!(!bits.is_overrun() && bits.is_exhausted());
        assert_eq!(bits.take(4), 0);
        assert!(bits.is_overrun());
        assert!(bits.restart());
        assert_eq!(bits.take(8), 0x34);
        assert!(!bits.is_overrun() && !bits.restart());
    }
}
