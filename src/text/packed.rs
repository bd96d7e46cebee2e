//! A vocabulary as one block of bytes, for a binary that has no tokenizer: ids in order, each a length (2 bytes, little-endian;
//! the highest bit says that it is a control token) and so many bytes.

use super::Tokenizer;

const CONTROL: u16 = 1 << 15;

/// Bytes of a token beyond 32,767, which no vocabulary has, are cut off.
pub fn pack(tokenizer: &Tokenizer) -> Vec<u8> {
    let mut packed = Vec::new();
    for id in 0..tokenizer.vocab_size() as u32 {
        let bytes = tokenizer.token_bytes(id);
        let length = bytes.len().min(usize::from(CONTROL - 1));
        let control = if tokenizer.is_special(id) { CONTROL } else { 0 };
        packed.extend_from_slice(&(length as u16 | control).to_le_bytes());
        packed.extend_from_slice(&bytes[..length]);
    }
    packed
}

/// The tokens of a block and whether each is a control token. `None`: it is no such block.
pub fn unpack(mut packed: &[u8]) -> Option<Vec<(&[u8], bool)>> {
    let mut tokens = Vec::new();
    while let Some((head, rest)) = packed.split_first_chunk::<2>() {
        let head = u16::from_le_bytes(*head);
        let (bytes, rest) = rest.split_at_checked(usize::from(head & !CONTROL))?;
        tokens.push((bytes, head & CONTROL != 0));
        packed = rest;
    }
    packed.is_empty().then_some(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_is_no_vocabulary() {
        let packed = [1, 0, b'a', 3, 128, b'<', b's', b'>', 0, 0];
        let tokens: [(&[u8], bool); 3] = [(b"a", false), (b"<s>", true), (b"", false)];
        assert_eq!(unpack(&packed).unwrap(), tokens);
        for cut in [1, 2, 4, 5, 7, 9] {
            assert_eq!(unpack(&packed[..cut]), None, "{cut}");
        }
    }
}
