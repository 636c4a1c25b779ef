//! Which of the three document languages a text is written in.

/// The language of a policy or host file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    #[default]
    Yaml,
    Json,
    Toml,
}

impl Format {
    /// By the extension of `file_name`: `.json`, `.toml`; everything else is YAML.
    pub fn of(file_name: &str) -> Format {
        let extension = file_name.rsplit_once('.').map_or("", |(_, end)| end);
        if extension.eq_ignore_ascii_case("json") {
            Format::Json
        } else if extension.eq_ignore_ascii_case("toml") {
            Format::Toml
        } else {
            Format::Yaml
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_decides() {
        assert_eq!(Format::of("a/b.JSON"), Format::Json);
        assert_eq!(Format::of("p.toml"), Format::Toml);
        assert_eq!(Format::of("p.yml"), Format::Yaml);
        assert_eq!(Format::of("policy"), Format::Yaml);
    }
}
