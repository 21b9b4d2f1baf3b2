; The names that functions of Go bind. nbs/73_dataset/41_scopes.ipynb says what the captures mean.
[(function_declaration) (method_declaration) (func_literal)] @function
[(block) (for_statement) (if_statement) (expression_switch_statement) (type_switch_statement) (expression_case)
 (default_case) (type_case) (communication_case)] @scope

(function_declaration name: (_) @fixed)
(type_declaration) @fixed
; the name of a field or a variable: only the type could tell
(keyed_element key: (literal_element (identifier) @fixed))

(function_declaration parameters: (parameter_list (_ name: (identifier) @param)) body: (_) @within)
(function_declaration result: (parameter_list (_ name: (identifier) @param)) body: (_) @within)
(method_declaration receiver: (parameter_list (_ name: (identifier) @param)) body: (_) @within)
(method_declaration parameters: (parameter_list (_ name: (identifier) @param)) body: (_) @within)
(method_declaration result: (parameter_list (_ name: (identifier) @param)) body: (_) @within)
(func_literal parameters: (parameter_list (_ name: (identifier) @param)) body: (_) @within)
(func_literal result: (parameter_list (_ name: (identifier) @param)) body: (_) @within)
(function_type parameters: (parameter_list (_ name: (identifier) @param))) @within
(function_type result: (parameter_list (_ name: (identifier) @param))) @within
(short_var_declaration left: (expression_list (identifier) @name)) @from
(var_spec name: (identifier) @name) @from
(const_spec name: (identifier) @name) @from
(range_clause left: (expression_list (identifier) @name) ":=") @from
(receive_statement left: (expression_list (identifier) @name) ":=") @from
(type_switch_statement alias: (expression_list (identifier) @name) (type_case) @within)
(type_switch_statement alias: (expression_list (identifier) @name) (default_case) @within)
