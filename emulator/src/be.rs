//! Fields of the card's structures: big-endian, at a byte offset.
//!
//! They panic if the offset is out of bounds. Offsets are constants of a layout and buffers have its size, so a guest
//! cannot cause that.

/// The 16 bits at `offset`.
pub fn get16(bytes: &[u8], offset: usize) -> u16 {
    u16::from_be_bytes([bytes[offset], bytes[offset + 1]])
}

/// The 24 bits in the low part of the 32-bit word at `offset`: queue numbers, PSNs.
pub fn get24(bytes: &[u8], offset: usize) -> u32 {
    get32(bytes, offset) & 0xff_ffff
}

/// The 32 bits at `offset`.
pub fn get32(bytes: &[u8], offset: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_be_bytes(word)
}

/// The 64 bits at `offset`.
pub fn get64(bytes: &[u8], offset: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_be_bytes(word)
}

/// Stores 16 bits at `offset`.
pub fn put16(bytes: &mut [u8], offset: usize, value: u16) {
    bytes[offset..offset + 2].copy_from_slice(&value.to_be_bytes());
}

/// Stores the low 24 bits of `value` at `offset + 1`. The byte at `offset` stays.
pub fn put24(bytes: &mut [u8], offset: usize, value: u32) {
    bytes[offset + 1..offset + 4].copy_from_slice(&value.to_be_bytes()[1..]);
}

/// Stores 32 bits at `offset`.
pub fn put32(bytes: &mut [u8], offset: usize, value: u32) {
    bytes[offset..offset + 4].copy_from_slice(&value.to_be_bytes());
}

/// Stores 64 bits at `offset`.
pub fn put64(bytes: &mut [u8], offset: usize, value: u64) {
    bytes[offset..offset + 8].copy_from_slice(&value.to_be_bytes());
}
