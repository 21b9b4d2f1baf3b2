; The names that functions of JavaScript bind. nbs/73_dataset/41_scopes.ipynb says what the captures mean.
[(function_declaration) (function_expression) (arrow_function) (method_definition) (generator_function)
 (generator_function_declaration)] @function
[(statement_block) (for_statement) (for_in_statement) (catch_clause) (switch_body)] @scope
(function_declaration body: (_) @body)
(function_expression body: (_) @body)
(arrow_function body: (_) @body)
(method_definition body: (_) @body)
(generator_function body: (_) @body)
(generator_function_declaration body: (_) @body)
(class_static_block body: (_) @body)

(function_declaration name: (_) @fixed)
(function_expression name: (_) @fixed)
(generator_function name: (_) @fixed)
(generator_function_declaration name: (_) @fixed)
(class_declaration name: (_) @fixed)
(class name: (_) @fixed)
(method_definition name: (computed_property_name) @fixed)
[(shorthand_property_identifier) (shorthand_property_identifier_pattern) (decorator)] @fixed
(with_statement) @never
((call_expression function: (identifier) @_name) @never (#eq? @_name "eval"))

(function_declaration parameters: (formal_parameters (_) @param)) @within
(function_expression parameters: (formal_parameters (_) @param)) @within
(arrow_function parameters: (formal_parameters (_) @param)) @within
(arrow_function parameter: (_) @param) @within
(method_definition parameters: (formal_parameters (_) @param)) @within
(generator_function parameters: (formal_parameters (_) @param)) @within
(generator_function_declaration parameters: (formal_parameters (_) @param)) @within
(lexical_declaration (variable_declarator name: (_) @name))
(variable_declaration (variable_declarator name: (_) @var))
(for_in_statement kind: ["let" "const"] left: (_) @name) @within
(for_in_statement kind: "var" left: (_) @var)
(catch_clause parameter: (_) @name) @within
