//! Tokens of an expression, by the longest match at each place.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Token {
    Equals,
    NotEquals,
    In,
    Less,
    LessEquals,
    GreaterEquals,
    Greater,
    And,
    Or,
    OpenBracket,
    CloseBracket,
    OpenBrace,
    CloseBrace,
    OpenParen,
    CloseParen,
    Dot,
    Comma,
    Minus,
    Exclam,
    Question,
    Colon,
    Plus,
    Star,
    Slash,
    Percent,
    True,
    False,
    Null,
    Double,
    Int,
    Uint,
    String,
    Bytes,
    Ident,
    EscapedIdent,
    End,
}

impl Token {
    /// The token's name in messages.
    pub fn name(self) -> &'static str {
        use Token as T;
        match self {
            T::Equals => "'=='",
            T::NotEquals => "'!='",
            T::In => "'in'",
            T::Less => "'<'",
            T::LessEquals => "'<='",
            T::GreaterEquals => "'>='",
            T::Greater => "'>'",
            T::And => "'&&'",
            T::Or => "'||'",
            T::OpenBracket => "'['",
            T::CloseBracket => "']'",
            T::OpenBrace => "'{'",
            T::CloseBrace => "'}'",
            T::OpenParen => "'('",
            T::CloseParen => "')'",
            T::Dot => "'.'",
            T::Comma => "','",
            T::Minus => "'-'",
            T::Exclam => "'!'",
            T::Question => "'?'",
            T::Colon => "':'",
            T::Plus => "'+'",
            T::Star => "'*'",
            T::Slash => "'/'",
            T::Percent => "'%'",
            T::True => "'true'",
            T::False => "'false'",
            T::Null => "'null'",
            T::Double => "NUM_FLOAT",
            T::Int => "NUM_INT",
            T::Uint => "NUM_UINT",
            T::String => "STRING",
            T::Bytes => "BYTES",
            T::Ident => "IDENTIFIER",
            T::EscapedIdent => "ESC_IDENTIFIER",
            T::End => "<EOF>",
        }
    }
}

/// A token and the code points that it covers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lexeme {
    pub token: Token,
    pub start: u32,
    pub end: u32,
}

/// A stretch of text that is no token.
pub(crate) struct Unrecognized {
    pub start: u32,
    pub end: u32,
}

/// Splits a text; the last token is `End`. What is no token is reported and left out.
pub(crate) fn tokens(chars: &[char]) -> (Vec<Lexeme>, Vec<Unrecognized>) {
    let mut out = Vec::new();
    let mut bad = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let rest = &chars[at..];
        if let Some(hidden) = hidden(rest) {
            at += hidden;
            continue;
        }
        match longest(rest) {
            Ok((token, length)) => {
                out.push(Lexeme {
                    token,
                    start: at as u32,
                    end: (at + length) as u32,
                });
                at += length;
            }
            Err(length) => {
                bad.push(Unrecognized {
                    start: at as u32,
                    end: (at + length) as u32,
                });
                at += length;
            }
        }
    }
    let end = chars.len() as u32;
    out.push(Lexeme {
        token: Token::End,
        start: end,
        end,
    });
    (out, bad)
}

fn hidden(rest: &[char]) -> Option<usize> {
    let space = rest
        .iter()
        .take_while(|c| matches!(c, '\t' | ' ' | '\r' | '\n' | '\u{c}'))
        .count();
    if space > 0 {
        return Some(space);
    }
    rest.starts_with(&['/', '/'])
        .then(|| rest.iter().take_while(|c| **c != '\n').count())
}

const SYMBOLS: [(&str, Token); 24] = [
    ("==", Token::Equals),
    ("!=", Token::NotEquals),
    ("<=", Token::LessEquals),
    (">=", Token::GreaterEquals),
    ("&&", Token::And),
    ("||", Token::Or),
    ("<", Token::Less),
    (">", Token::Greater),
    ("[", Token::OpenBracket),
    ("]", Token::CloseBracket),
    ("{", Token::OpenBrace),
    ("}", Token::CloseBrace),
    ("(", Token::OpenParen),
    (")", Token::CloseParen),
    (".", Token::Dot),
    (",", Token::Comma),
    ("-", Token::Minus),
    ("!", Token::Exclam),
    ("?", Token::Question),
    (":", Token::Colon),
    ("+", Token::Plus),
    ("*", Token::Star),
    ("/", Token::Slash),
    ("%", Token::Percent),
];

/// The longest token at the beginning, or how far a token was begun that did not end.
fn longest(rest: &[char]) -> Result<(Token, usize), usize> {
    let mut reached = 1;
    let mut best: Option<(Token, usize)> = None;
    let mut offer = |token, length: usize| {
        if length > best.map_or(0, |(_, l)| l) {
            best = Some((token, length));
        }
    };
    for (symbol, token) in SYMBOLS {
        if symbol.chars().enumerate().all(|(i, c)| rest.get(i) == Some(&c)) {
            offer(token, symbol.len());
        }
    }
    if let Some((token, length)) = number(rest) {
        offer(token, length);
    }
    if rest[0].is_ascii_alphabetic() || rest[0] == '_' {
        let length = rest
            .iter()
            .take_while(|c| c.is_ascii_alphanumeric() || **c == '_')
            .count();
        let word: String = rest[..length].iter().collect();
        let token = match word.as_str() {
            "in" => Token::In,
            "true" => Token::True,
            "false" => Token::False,
            "null" => Token::Null,
            _ => Token::Ident,
        };
        offer(token, length);
    }
    if rest[0] == '`' {
        let inside = rest[1..]
            .iter()
            .take_while(|c| c.is_ascii_alphanumeric() || "_.-/ ".contains(**c))
            .count();
        if inside > 0 && rest.get(inside + 1) == Some(&'`') {
            offer(Token::EscapedIdent, inside + 2);
        }
        reached = reached.max(inside + 1 + usize::from(inside + 1 < rest.len()));
    }
    let prefix = usize::from(matches!(rest[0], 'b' | 'B'));
    for skipped in 0..=prefix {
        let token = if skipped == 1 { Token::Bytes } else { Token::String };
        match string(&rest[skipped..]) {
            Some(Ok(length)) => offer(token, length + skipped),
            Some(Err(length)) => reached = reached.max(length + skipped),
            None => {}
        }
    }
    // one sign of an operator of two
    if matches!(rest[0], '=' | '&' | '|') {
        reached = reached.max(rest.len().min(2));
    }
    best.ok_or(reached.min(rest.len()))
}

fn number(rest: &[char]) -> Option<(Token, usize)> {
    let digits = |at: usize| rest.iter().skip(at).take_while(|c| c.is_ascii_digit()).count();
    let exponent = |at: usize| {
        if !matches!(rest.get(at), Some('e' | 'E')) {
            return 0;
        }
        let sign = usize::from(matches!(rest.get(at + 1), Some('+' | '-')));
        match digits(at + 1 + sign) {
            0 => 0,
            n => 1 + sign + n,
        }
    };
    let unsigned = |length: usize| match rest.get(length) {
        Some('u' | 'U') => (Token::Uint, length + 1),
        _ => (Token::Int, length),
    };
    if rest.starts_with(&['0', 'x']) {
        let hex = rest[2..].iter().take_while(|c| c.is_ascii_hexdigit()).count();
        if hex > 0 {
            return Some(unsigned(2 + hex));
        }
    }
    let whole = digits(0);
    if rest.get(whole) == Some(&'.') && digits(whole + 1) > 0 {
        let length = whole + 1 + digits(whole + 1);
        return Some((Token::Double, length + exponent(length)));
    }
    if whole == 0 {
        return None;
    }
    match exponent(whole) {
        0 => Some(unsigned(whole)),
        n => Some((Token::Double, whole + n)),
    }
}

/// The length of a string literal, or how far it went before it broke off.
fn string(rest: &[char]) -> Option<Result<usize, usize>> {
    let raw = usize::from(matches!(rest.first(), Some('r' | 'R')));
    let quote = *rest.get(raw).filter(|c| matches!(c, '\'' | '"'))?;
    let triple = rest.get(raw..raw + 3).is_some_and(|q| q.iter().all(|c| *c == quote));
    let short = run(rest, raw + 1, quote, false, raw == 1);
    if triple {
        let long = run(rest, raw + 3, quote, true, raw == 1);
        return Some(match (short, long) {
            (Ok(a), Ok(b)) => Ok(a.max(b)),
            (Ok(a), Err(_)) => Ok(a),
            (Err(_), long) => long,
        });
    }
    Some(short)
}

fn run(rest: &[char], from: usize, quote: char, triple: bool, raw: bool) -> Result<usize, usize> {
    let mut at = from;
    while let Some(c) = rest.get(at) {
        if *c == quote {
            if !triple {
                return Ok(at + 1);
            }
            if rest.get(at + 1) == Some(&quote) && rest.get(at + 2) == Some(&quote) {
                return Ok(at + 3);
            }
        }
        if !triple && matches!(c, '\n' | '\r') {
            return Err(at + 1);
        }
        if *c == '\\' && !raw {
            at += escape(&rest[at..]).map_err(|n| at + n)?;
            continue;
        }
        at += 1;
    }
    Err(at)
}

/// The length of an escape, or how far it is one.
fn escape(rest: &[char]) -> Result<usize, usize> {
    let count = |n: usize, ok: fn(&char) -> bool| {
        let found = rest.iter().skip(2).take(n).take_while(|c| ok(c)).count();
        if found == n {
            Ok(n + 2)
        } else {
            Err((found + 3).min(rest.len()))
        }
    };
    match rest.get(1) {
        Some('a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '"' | '\'' | '\\' | '?' | '`') => Ok(2),
        Some('0'..='3') => count(2, |c| ('0'..='7').contains(c)),
        Some('x' | 'X') => count(2, char::is_ascii_hexdigit),
        Some('u') => count(4, char::is_ascii_hexdigit),
        Some('U') => count(8, char::is_ascii_hexdigit),
        Some(_) => Err(2),
        None => Err(1),
    }
}
