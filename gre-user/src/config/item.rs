//! One value of the file: read as the type that is wanted, or refused with what is allowed and what was found.

use std::fmt;
use std::ops::RangeInclusive;

use strum::VariantArray;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::ConfigError;
use super::section::Section;

/// A value, its key and its section.
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    section: Section<'a>,
    key: &'static str,
    value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Item<'a> {
    pub(super) fn new(section: Section<'a>, key: &'static str, value: &'a Spanned<DeValue<'a>>) -> Self {
        Self { section, key, value }
    }

    /// Where the value starts in the text, in bytes.
    pub(super) fn start(&self) -> usize {
        self.value.span().start
    }

    /// The value as it stands in the text.
    pub(super) fn written(&self) -> String {
        self.section.written(self.value.span())
    }

    /// An error about this value.
    pub(super) fn error(&self, message: impl fmt::Display) -> ConfigError {
        self.section.error_at(self.start(), self.key, message)
    }

    /// An error that says what is allowed and shows what was found.
    pub(super) fn expected(&self, what: impl fmt::Display) -> ConfigError {
        self.error(format!("expected {what}, found {}", self.written()))
    }

    /// The value, if it is a string.
    pub(super) fn string(&self) -> Option<&'a str> {
        self.value.get_ref().as_str()
    }

    /// The value, if it is a table.
    pub(super) fn table(&self) -> Option<&'a DeTable<'a>> {
        self.value.get_ref().as_table()
    }

    /// The value as a section of its own, if it is a table with these keys.
    pub(super) fn nested(&self, keys: &[&str]) -> Option<Result<Section<'a>, ConfigError>> {
        self.section.nested(self.key, self.value, keys)
    }

    /// The elements, if the value is an array.
    pub(super) fn elements(&self) -> Option<impl ExactSizeIterator<Item = Self> + use<'a>> {
        let item = *self;
        let elements = self.value.get_ref().as_array()?.iter();
        Some(elements.map(move |value| Self { value, ..item }))
    }

    /// The value, if it is an integer in this range.
    pub(super) fn integer_within(&self, range: &RangeInclusive<u32>) -> Option<u32> {
        let integer = self.value.get_ref().as_integer()?;
        // i128 takes any sign; what overflows even that is out of range like the rest.
        let number = i128::from_str_radix(integer.as_str(), integer.radix()).ok()?;
        u32::try_from(number).ok().filter(|number| range.contains(number))
    }

    /// The value as an integer in this range.
    pub(super) fn integer(&self, range: RangeInclusive<u32>) -> Result<u32, ConfigError> {
        self.integer_within(&range)
            .ok_or_else(|| self.expected(format!("an integer from {} to {}", range.start(), range.end())))
    }

    /// The value as a truth value.
    pub(super) fn boolean(&self) -> Result<bool, ConfigError> {
        self.value
            .get_ref()
            .as_bool()
            .ok_or_else(|| self.expected("true or false"))
    }

    /// The value as one of the words that `T` knows.
    pub(super) fn choice<T: Copy + VariantArray + Into<&'static str>>(&self) -> Result<T, ConfigError> {
        let named = |word| T::VARIANTS.iter().copied().find(|&variant| word == variant.into());
        self.string().and_then(named).ok_or_else(|| self.expected(words::<T>()))
    }
}

/// The words that `T` knows, as a message lists them: `"a", "b" or "c"`.
fn words<T: Copy + VariantArray + Into<&'static str>>() -> String {
    let mut list = String::new();
    for (index, &variant) in T::VARIANTS.iter().enumerate() {
        list += match index {
            0 => "",
            _ if index + 1 == T::VARIANTS.len() => " or ",
            _ => ", ",
        };
        list += &format!("\"{}\"", variant.into());
    }
    list
}
