; Tags of JSX: in small letters they are words of HTML, no names.
(jsx_opening_element name: (_) @fixed)
(jsx_closing_element name: (_) @fixed)
(jsx_self_closing_element name: (_) @fixed)
