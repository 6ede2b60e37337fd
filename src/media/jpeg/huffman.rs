//! Huffman codes, and the bits that they are read from. Source: ITU-T T.81, annexes C and F.

use crate::media::Error;

/// Bits of a code that are looked up at once; longer codes, which are rare, are searched for.
const QUICK_BITS: u8 = 8;

/// The codes of a table.
pub(super) struct Table {
    /// For the next 8 bits, the length of the code that they begin with and its symbol; a length of
    /// 0 for a longer code.
    quick: [(u8, u8); 1 << QUICK_BITS],
    /// For each length of codes, from 1 to 16.
    lengths: [Length; 16],
    symbols: Vec<u8>,
}

#[derive(Clone, Copy, Default)]
struct Length {
    /// The first number of 16 bits that begins with no code of this length or a shorter one.
    end: u32,
    /// The first code, as a number of its length.
    first: u32,
    /// The place of the first code's symbol.
    place: u32,
}

impl Table {
    /// Makes the table with so many codes of each length, for these symbols in their order; `None`
    /// if there cannot be that many codes.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let mut quick = [(0, 0); 1 << QUICK_BITS];
        let mut lengths = [Length::default(); 16];
        let (mut code, mut place) = (0_u32, 0_u32);
        for (bits, (count, length)) in (1_u8..).zip(counts.iter().zip(&mut lengths)) {
            code <<= 1;
            let count = u32::from(*count);
            if code + count > 1 << bits {
                return None;
            }
            *length = Length {
                end: (code + count) << (16 - bits),
                first: code,
                place,
            };
            if bits <= QUICK_BITS {
                let symbols = symbols.get(place as usize..(place + count) as usize)?;
                // A code begins as many of the next 8 bits as there are numbers of the bits behind
                // it.
                let span = 1 << (QUICK_BITS - bits);
                let entries = quick.chunks_exact_mut(span).skip(code as usize);
                for (entries, symbol) in entries.zip(symbols) {
                    entries.fill((bits, *symbol));
                }
            }
            code += count;
            place += count;
        }
        let symbols = symbols.get(..place as usize)?.to_vec();
        Some(Self {
            quick,
            lengths,
            symbols,
        })
    }

    /// Reads a code; its symbol.
    ///
    /// # Errors
    ///
    /// If the bits are no code.
    pub(super) fn read(&self, bits: &mut Bits<'_>) -> Result<u8, Error> {
        let next = u32::from(bits.peek(16));
        let quick = self.quick.get((next >> (16 - QUICK_BITS)) as usize);
        if let Some((length @ 1.., symbol)) = quick {
            bits.skip((*length).into());
            return Ok(*symbol);
        }
        let found = (1..)
            .zip(&self.lengths)
            .find(|(_, length)| next < length.end);
        let (count, length) = found.ok_or(Error::Unreadable)?;
        let place = length.place + (next >> (16 - count)) - length.first;
        let symbol = self.symbols.get(place as usize).ok_or(Error::Unreadable)?;
        bits.skip(count);
        Ok(*symbol)
    }
}

/// The bits of a scan's coded data. A byte of ones that is data is followed by one of zeros there;
/// else it begins a marker.
pub(super) struct Bits<'a> {
    data: &'a [u8],
    /// The next bits, the first of them the highest; behind the last one of the data, zeros.
    ahead: u64,
    /// The number of bits ahead that are of the data.
    count: u32,
    is_overrun: bool,
}

impl<'a> Bits<'a> {
    pub(super) fn of(data: &'a [u8]) -> Self {
        Self {
            data,
            ahead: 0,
            count: 0,
            is_overrun: false,
        }
    }

    /// The next bits, up to 16, as a number.
    fn peek(&mut self, count: u32) -> u16 {
        while self.count <= 56 {
            let (byte, rest) = match self.data {
                [0xff, 0x00, rest @ ..] => (0xff, rest),
                [0xff, ..] | [] => break,
                [byte, rest @ ..] => (*byte, rest),
            };
            self.data = rest;
            self.ahead |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
        // In two steps, since not all of 64 bits can be moved out at once.
        u16::try_from(self.ahead >> 48 >> (16 - count)).unwrap_or_default()
    }

    /// Passes over up to 16 bits.
    fn skip(&mut self, count: u32) {
        self.is_overrun |= count > self.count;
        self.ahead <<= count;
        self.count = self.count.saturating_sub(count);
    }

    /// Takes up to 16 bits as a number.
    pub(super) fn take(&mut self, count: u32) -> u16 {
        let bits = self.peek(count);
        self.skip(count);
        bits
    }

    /// Takes a number of up to 15 bits, in which the first bit of a negative one is zero. Source:
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

    /// True if more was read than there is, or if too little is left to tell that a code is wrong.
    pub(super) fn is_exhausted(&self) -> bool {
        let may_go_on = self.count >= 16 || matches!(self.data, [0xff, 0x00, ..] | [0..=0xfe, ..]);
        self.is_overrun || !may_go_on
    }

    /// True if more was read than there is.
    pub(super) fn is_overrun(&self) -> bool {
        self.is_overrun
    }

    /// Goes on behind the next marker of a restart; false if there is none.
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
    fn codes_are_read_by_their_length() {
        // 0, 10, 110, 1110000000000 and 1110000000001.
        let mut counts = [0; 16];
        counts[..3].copy_from_slice(&[1, 1, 1]);
        counts[12] = 2;
        let table = Table::new(&counts, &[7, 8, 9, 10, 11]).unwrap();
        let mut bits = Bits::of(&[0b0101_1011, 0b1000_0000, 0b0001_1100, 0b0000_0001]);

        let read: Vec<_> = (0..5).map(|_| table.read(&mut bits).unwrap()).collect();

        assert_eq!(read, [7, 8, 9, 10, 11]);
        assert!(!bits.is_overrun());
        // 110 and ones are no code.
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
    fn numbers_are_positive_or_negative_by_their_first_bit() {
        let mut bits = Bits::of(&[0b1011_0001, 0b1111_0000]);

        let read: Vec<_> = [1, 1, 2, 2, 2, 8, 0]
            .map(|count| bits.take_signed(count))
            .into();

        assert_eq!(read, [1, -1, 3, -3, -2, 240, 0]);
    }

    #[test]
    fn markers_end_the_bits_and_a_restart_begins_anew() {
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
