; The names that methods of Java bind. nbs/73_dataset/41_scopes.ipynb says what the captures mean.
[(method_declaration) (constructor_declaration) (compact_constructor_declaration) (lambda_expression)
 (static_initializer)] @function
[(block) (constructor_body) (for_statement) (switch_block)] @scope

(method_declaration name: (_) @fixed)
(class_declaration name: (_) @fixed)
(interface_declaration name: (_) @fixed)
(enum_declaration name: (_) @fixed)
(record_declaration name: (_) @fixed)
(record_declaration parameters: (_) @fixed)
(field_declaration declarator: (variable_declarator name: (_) @fixed))
[(enum_constant) (switch_label) (type_pattern) (record_pattern) (compact_constructor_declaration)] @fixed
(instanceof_expression name: (_) @fixed)
; in a class inside of a method, a name may be a field that it inherits
(object_creation_expression (class_body) @fixed)
(block (class_declaration body: (_) @fixed))
; frameworks may read the names of annotated parameters
(formal_parameter (modifiers [(annotation) (marker_annotation)])) @fixed
(field_access field: (_) @other)
(method_invocation name: (_) @other)
(method_reference (_) (identifier) @other)
(labeled_statement (identifier) @other)
(break_statement (identifier) @other)
(continue_statement (identifier) @other)
(element_value_pair key: (_) @other)
(annotation name: (_) @other)
(marker_annotation name: (_) @other)

(method_declaration parameters: (formal_parameters (_ name: (identifier) @param)) body: (_) @within)
(method_declaration parameters: (formal_parameters (_ (variable_declarator name: (identifier) @param))) body: (_) @within)
(constructor_declaration parameters: (formal_parameters (_ name: (identifier) @param)) body: (_) @within)
(constructor_declaration parameters: (formal_parameters (_ (variable_declarator name: (identifier) @param)))
 body: (_) @within)
(lambda_expression parameters: (identifier) @param body: (_) @within)
(lambda_expression parameters: (inferred_parameters (identifier) @param) body: (_) @within)
(lambda_expression parameters: (formal_parameters (_ name: (identifier) @param)) body: (_) @within)
(catch_clause (catch_formal_parameter name: (_) @name) body: (_) @within)
(enhanced_for_statement name: (_) @name body: (_) @within)
(try_with_resources_statement resources: (resource_specification (resource name: (_) @name)) body: (_) @within)
(local_variable_declaration declarator: (variable_declarator name: (_) @name) @since)
