//! GPT-2's spelling of bytes as printable characters, in which byte-level vocabularies are written: printable ones
//! as themselves, the other 68 as U+0100 and following (`Ġ` is the space).

/// Appends the bytes that `spelled` stands for; where a character stands for none, `spelled` as it is.
pub(super) fn decode(spelled: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    let mut rest = spelled;
    while let [first, after @ ..] = rest {
        // All of the spelling's characters are of one or two bytes in UTF-8.
        let (c, after) = match (first, after) {
            (0x21..=0x7E, _) => (*first as u32, after),
            (0xC2..=0xC5, [second @ 0x80..=0xBF, after @ ..]) => {
                ((*first as u32 & 0x1F) << 6 | *second as u32 & 0x3F, after)
            }
            _ => (0, after),
        };
        let Some(byte) = byte_of(c) else {
            out.truncate(start);
            return out.extend_from_slice(spelled);
        };
        out.push(byte);
        rest = after;
    }
}

fn byte_of(c: u32) -> Option<u8> {
    match c {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => Some(c as u8),
        0x100..=0x120 => Some((c - 0x100) as u8),
        0x121..=0x142 => Some((c - 0x121) as u8 + 0x7F),
        0x143 => Some(0xAD),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_byte_is_spelled_as_gpt2_does() {
        // The rule of GPT-2's encoder.py.
        let printable = |b: u32| matches!(b, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
        let mut n = 0;
        for b in 0..256 {
            let c = if printable(b) {
                b
            } else {
                n += 1;
                255 + n
            };
            let mut out = Vec::new();
            super::decode(char::from_u32(c).unwrap().to_string().as_bytes(), &mut out);
            assert_eq!(out, [b as u8]);
        }
    }
}
