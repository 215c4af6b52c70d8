//! Operation codes of a rule program; the build script writes them, the interpreter reads them.

pub const END: u8 = 0;
// any kind
pub const REQUIRED: u8 = 1;
pub const SKIP: u8 = 2;
pub const IGNORE_EMPTY: u8 = 3;
// numbers, enums and booleans; one operand
pub const CONST: u8 = 10;
pub const LT: u8 = 11;
pub const LTE: u8 = 12;
pub const GT: u8 = 13;
pub const GTE: u8 = 14;
// numbers and enums; a list
pub const IN: u8 = 15;
pub const NOT_IN: u8 = 16;
pub const DEFINED_ONLY: u8 = 17;
// strings and bytes; a number
pub const LEN: u8 = 20;
pub const MIN_LEN: u8 = 21;
pub const MAX_LEN: u8 = 22;
pub const LEN_BYTES: u8 = 23;
pub const MIN_BYTES: u8 = 24;
pub const MAX_BYTES: u8 = 25;
// strings; a text
pub const PATTERN: u8 = 30;
pub const PREFIX: u8 = 31;
pub const SUFFIX: u8 = 32;
pub const CONTAINS: u8 = 33;
pub const NOT_CONTAINS: u8 = 34;
// strings; one byte: strict or not
pub const HEADER_NAME: u8 = 35;
pub const HEADER_VALUE: u8 = 36;
// strings, and the type URL of an Any; a list
pub const IN_TEXT: u8 = 37;
pub const NOT_IN_TEXT: u8 = 38;
// repeated fields and maps; a number, or nothing
pub const MIN_ITEMS: u8 = 40;
pub const MAX_ITEMS: u8 = 41;
pub const UNIQUE: u8 = 42;
// a nested program: of the items or map values, and of the map keys
pub const ITEMS: u8 = 43;
pub const KEYS: u8 = 44;
// durations; one operand
pub const DURATION_CONST: u8 = 50;
pub const DURATION_LT: u8 = 51;
pub const DURATION_LTE: u8 = 52;
pub const DURATION_GT: u8 = 53;
pub const DURATION_GTE: u8 = 54;
