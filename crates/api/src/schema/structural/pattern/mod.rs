//! Regular expressions as Go's `regexp/syntax` reads them (RE2 with Perl's classes), written out for the `regex` crate.
//! Differences between the two are listed in the test table.

mod class;
mod translate;

use regex::{Regex, RegexBuilder};

use self::translate::translated;

/// What Go allows groups to nest.
const MAX_DEPTH: usize = 1000;
/// Bytes of a compiled expression: Go takes a million instructions, which no schema comes near.
const MAX_COMPILED: usize = 64 << 20;

/// Why a text is no regular expression, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {why}: `{at}`")]
pub struct PatternError {
    why: &'static str,
    /// The part of the text that is wrong.
    at: String,
}

/// A pattern of a schema.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: Box<str>,
    compiled: Result<Regex, PatternError>,
}

impl Pattern {
    /// Compiles the pattern. One that is none is kept with the reason, which [`Pattern::matches`] tells.
    pub fn new(text: &str) -> Pattern {
        Pattern {
            text: text.into(),
            compiled: compile(text),
        }
    }

    /// The pattern as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the pattern matches somewhere in a text.
    ///
    /// # Errors
    /// Why it is no pattern, in Go's words.
    pub fn matches(&self, text: &str) -> Result<bool, &PatternError> {
        match &self.compiled {
            Ok(regex) => Ok(regex.is_match(text)),
            Err(why) => Err(why),
        }
    }

    /// Why it is no pattern.
    pub fn problem(&self) -> Option<&PatternError> {
        self.compiled.as_ref().err()
    }
}

/// Compiles an expression of Go's.
///
/// # Errors
/// What Go says of one that it does not take.
pub fn compile(text: &str) -> Result<Regex, PatternError> {
    compile_within(text, MAX_COMPILED)
}

/// Compiles an expression of Go's that may take so many bytes.
///
/// # Errors
/// What Go says of one that it does not take, or of one that is too large.
pub fn compile_within(text: &str, bytes: usize) -> Result<Regex, PatternError> {
    let mut builder = RegexBuilder::new(&translated(text)?);
    builder.nest_limit(2 * MAX_DEPTH as u32).size_limit(bytes);
    builder.build().map_err(|_| error("expression too large", text))
}

/// Says whether an expression is one of Go's, without compiling it.
///
/// # Errors
/// What Go says of one that it does not take.
pub fn check(text: &str) -> Result<(), PatternError> {
    translated(text).map(|_| ())
}

fn error(why: &'static str, at: &str) -> PatternError {
    PatternError { why, at: at.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An expression, texts that it matches and texts that it does not.
    const TAKEN: &[(&str, &[&str], &[&str])] = &[
        // single characters and their classes
        (".", &["a", "é"], &["\n", ""]),
        ("(?s).", &["\n"], &[""]),
        ("[xyz]", &["y"], &["a"]),
        ("[^xyz]", &["a", "\n"], &["x"]),
        ("^[^[\\]]+$", &["a.b"], &["a[", "]"]),
        ("^[]a]+$", &["]a"], &["b"]),
        ("^[^]a]$", &["b"], &["]"]),
        ("^[a-]+$", &["a-"], &["b"]),
        ("^[-a]+$", &["a-"], &["b"]),
        ("^[\\w-.]+$", &["a-."], &["!"]),
        ("^[a&&b]+$", &["a&b"], &["c"]),
        ("^[+--a~~c]+$", &[",", "~"], &["d", "."]),
        ("^[[a]+$", &["[a"], &["]"]),
        ("^[[:alpha:]]$", &["a"], &["1", "é"]),
        ("^[[:^alpha:]1]$", &["1", "é"], &["a"]),
        ("^[[:word:]]$", &["_"], &["-"]),
        ("^\\d$", &["7"], &["٣"]),
        ("^\\D$", &["٣"], &["7"]),
        ("^\\s$", &["\t", "\u{c}"], &["\u{b}", "\u{a0}"]),
        ("^\\S$", &["\u{b}"], &[" "]),
        ("^\\w$", &["a", "_"], &["é"]),
        ("^\\W$", &["é"], &["a"]),
        ("^[\\d\\pL]$", &["1", "é"], &["-"]),
        ("^\\pN$", &["٣"], &["a"]),
        ("^\\pL+$", &["éa"], &["1"]),
        ("^\\PL$", &["1"], &["a"]),
        ("^\\p{Greek}$", &["α"], &["a"]),
        ("^\\P{Greek}$", &["a"], &["α"]),
        ("^\\p{^Greek}$", &["a"], &["α"]),
        ("^\\p{Lu}$", &["A"], &["a"]),
        ("^\\p{Any}$", &["x"], &[""]),
        ("^[^\\x00-\\x{10FFFF}]$", &[], &["a"]),
        // composites and repetitions
        ("^xy$", &["xy"], &["x"]),
        ("^(x|y)$", &["x", "y"], &["z"]),
        ("^x*?$", &["", "xx"], &["y"]),
        ("^x+?y??$", &["x", "xy"], &["y"]),
        ("^x{2}$", &["xx"], &["x"]),
        ("^x{2,}?$", &["xxx"], &["x"]),
        ("^x{1,3}$", &["xxx"], &["xxxx"]),
        ("^(ab){2}$", &["abab"], &["ab"]),
        ("^a{0}$", &[""], &["a"]),
        ("a{", &["a{"], &["a"]),
        ("^a{,2}$", &["a{,2}"], &["aa"]),
        ("^a{x}$", &["a{x}"], &[]),
        ("^a{01}$", &["a{01}"], &["a"]),
        ("^{$", &["{"], &[]),
        ("^}]$", &["}]"], &[]),
        ("^(?:x{10}){100}$", &[], &["x"]),
        ("^*", &["a"], &[]),
        // groups and flags
        ("^(?P<n>a)(?<n>b)$", &["ab"], &["a"]),
        ("^(?:ab)$", &["ab"], &["a"]),
        ("^(?i)ab$", &["AB"], &["A"]),
        ("^(?i:a)b$", &["Ab"], &["AB"]),
        ("^a(?i)b|c$", &["aB", "C"], &["AB"]),
        ("^(?i)a(?-i)b$", &["Ab"], &["aB"]),
        ("(?m)^b$", &["a\nb"], &["ab"]),
        ("^a$", &["a"], &["a\n"]),
        ("(?U)^a+$", &["aa"], &["b"]),
        ("(?i-s)A.", &["ab"], &["a\n"]),
        ("^()$", &[""], &["a"]),
        ("^(|a)$", &["", "a"], &["b"]),
        // empty strings
        ("\\Aab\\z", &["ab"], &["ab\n"]),
        ("\\bé", &["aé"], &["é"]),
        ("^é\\b", &[], &["é"]),
        ("a\\B", &["ab"], &["a"]),
        // escapes
        ("^\\a\\f\\t\\n\\r\\v$", &["\u{7}\u{c}\t\n\r\u{b}"], &[]),
        ("^\\012$", &["\n"], &["2"]),
        ("^\\0$", &["\0"], &["0"]),
        ("^\\141$", &["a"], &[]),
        ("^\\x41$", &["A"], &[]),
        ("^\\x{1F600}$", &["😀"], &[]),
        ("^\\.\\_\\-\\/$", &["._-/"], &["a_-/"]),
        ("^\\Qa.*\\E$", &["a.*"], &["ab"]),
        ("^\\Qab\\E+$", &["abb"], &["abab"]),
        ("^\\Q.$", &[".$"], &["."]),
        ("^[\\]\\-\\\\]+$", &["]-\\"], &["a"]),
        ("^[\\n-\\r]$", &["\u{b}"], &["\u{e}"]),
        ("^#x y$", &["#x y"], &["#xy"]),
    ];

    /// What Go refuses, and its words.
    const REFUSED: &[(&str, &str)] = &[
        ("[a", "missing closing ]: `[a`"),
        ("(a", "missing closing ): `(a`"),
        ("a)", "unexpected ): `a)`"),
        ("*a", "missing argument to repetition operator: `*`"),
        ("(+)", "missing argument to repetition operator: `+`"),
        ("a|?", "missing argument to repetition operator: `?`"),
        ("{2}", "missing argument to repetition operator: `{2}`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a*+", "invalid nested repetition operator: `*+`"),
        ("a{2}{3}", "invalid nested repetition operator: `{2}{3}`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("a{3,2}", "invalid repeat count: `{3,2}`"),
        ("(a{100}){11}", "invalid repeat count: `{11}`"),
        ("[z-a]", "invalid character class range: `z-a`"),
        ("[[:foo:]]", "invalid character class range: `[:foo:]`"),
        ("\\p{Nothing}", "invalid character class range: `\\p{Nothing}`"),
        ("\\p{sc=Greek}", "invalid character class range: `\\p{sc=Greek}`"),
        ("\\p{Alphabetic}", "invalid character class range: `\\p{Alphabetic}`"),
        ("\\8", "invalid escape sequence: `\\8`"),
        ("(a)\\1", "invalid escape sequence: `\\1`"),
        ("\\Z", "invalid escape sequence: `\\Z`"),
        ("\\C", "invalid escape sequence: `\\C`"),
        ("\\h", "invalid escape sequence: `\\h`"),
        ("\\x{110000}", "invalid escape sequence: `\\x{110000`"),
        ("a\\", "trailing backslash at end of expression: ``"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ("(?!a)", "invalid or unsupported Perl syntax: `(?!`"),
        ("(?<=a)", "invalid named capture: `(?<=a)`"),
        ("(?x)a", "invalid or unsupported Perl syntax: `(?x`"),
        ("(?i-)a", "invalid or unsupported Perl syntax: `(?i-)`"),
        ("(?P<1 >a)", "invalid named capture: `(?P<1 >`"),
    ];

    #[test]
    fn every_construct_of_gos_syntax_means_what_it_means_there() {
        for (pattern, yes, no) in TAKEN {
            let compiled = compile(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
            for text in *yes {
                assert!(compiled.is_match(text), "{pattern} does not match {text:?}");
            }
            for text in *no {
                assert!(!compiled.is_match(text), "{pattern} matches {text:?}");
            }
        }
    }

    #[test]
    fn what_go_refuses_is_refused_in_its_words() {
        for (pattern, why) in REFUSED {
            let refused = compile(pattern).expect_err(pattern);
            assert_eq!(refused.to_string(), format!("error parsing regexp: {why}"), "{pattern}");
        }
    }
}
