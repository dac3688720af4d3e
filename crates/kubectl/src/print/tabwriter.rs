//! Columns of text: cells end with a tab, and neighbouring lines share the widths of their cells, as Go's text/tabwriter.

/// Aligns the lines it is given when it is flushed.
#[derive(Debug)]
pub struct TabWriter {
    min_width: usize,
    padding: usize,
    /// Columns never get narrower than they were in what was flushed before.
    remembers: bool,
    widths: Vec<usize>,
    text: String,
}

impl TabWriter {
    /// As `get` and most lists use it.
    pub fn table() -> Self {
        Self {
            min_width: 6,
            padding: 3,
            remembers: true,
            widths: Vec::new(),
            text: String::new(),
        }
    }

    /// As `describe` uses it.
    pub fn describe() -> Self {
        Self {
            min_width: 0,
            padding: 2,
            remembers: false,
            widths: Vec::new(),
            text: String::new(),
        }
    }

    pub(crate) fn line(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
    }

    pub(crate) fn forget_widths(&mut self) {
        self.widths.clear();
    }

    /// The aligned text of everything since the last flush.
    pub fn flush(&mut self) -> String {
        let text = std::mem::take(&mut self.text);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
        let mut widths: Vec<Vec<usize>> = lines.iter().map(|l| vec![0; l.len().saturating_sub(1)]).collect();
        self.block(&lines, &mut widths, 0, lines.len(), 0);
        let mut out = String::with_capacity(text.len() * 2);
        for (cells, widths) in lines.iter().zip(&widths) {
            for (i, cell) in cells.iter().enumerate() {
                out.push_str(cell);
                if let Some(width) = widths.get(i) {
                    let pad = width.saturating_sub(cell.chars().count());
                    out.extend(std::iter::repeat_n(' ', pad));
                }
            }
            out.push('\n');
        }
        out
    }

    /// Sets the width of one column in each run of lines that have it, and goes on inside the run.
    fn block(&mut self, lines: &[Vec<&str>], widths: &mut [Vec<usize>], from: usize, to: usize, column: usize) {
        let has = |line: usize| lines[line].len() > column + 1;
        let mut start = from;
        while start < to {
            if !has(start) {
                start += 1;
                continue;
            }
            let end = (start..to).find(|&l| !has(l)).unwrap_or(to);
            let longest = (start..end)
                .map(|l| lines[l][column].chars().count())
                .max()
                .unwrap_or(0);
            let mut width = (longest + self.padding).max(self.min_width);
            if self.remembers {
                if self.widths.len() <= column {
                    self.widths.resize(column + 1, 0);
                }
                width = width.max(self.widths[column]);
                self.widths[column] = width;
            }
            for line in &mut widths[start..end] {
                line[column] = width;
            }
            self.block(lines, widths, start, end, column + 1);
            start = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_lines_share_widths() {
        let mut writer = TabWriter::describe();
        writer.line("Name:\ta");
        writer.line("Namespace:\tb");
        writer.line("Events:\t<none>");
        assert_eq!(writer.flush(), "Name:       a\nNamespace:  b\nEvents:     <none>\n");
    }

    #[test]
    fn a_line_without_the_column_ends_the_block() {
        let mut writer = TabWriter::describe();
        writer.line("a\tb\tc");
        writer.line("plain");
        writer.line("longer\tb");
        assert_eq!(writer.flush(), "a  b  c\nplain\nlonger  b\n");
    }

    #[test]
    fn tables_remember_their_widths() {
        let mut writer = TabWriter::table();
        writer.line("NAME\tREADY");
        writer.line("long-name\t1/1");
        assert_eq!(writer.flush(), "NAME        READY\nlong-name   1/1\n");
        writer.line("x\t0/1");
        assert_eq!(writer.flush(), "x           0/1\n");
    }
}
