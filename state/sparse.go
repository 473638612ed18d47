package state

import (
	"encoding/json"
	"reflect"
	"strings"
)

// A record is read and written field by field. Before the first value of a type,
// encoding/json prepares all types that occur in it, which takes longer than all else
// that a healthy check does with its record. So it gets no field that has nothing.

// unmarshal is json.Unmarshal for a record.
func unmarshal(data []byte, rec Kept) error {
	var given map[string]json.RawMessage
	if err := json.Unmarshal(data, &given); err != nil {
		return err
	}
	return eachField(reflect.ValueOf(rec).Elem(), func(name, _ string, field reflect.Value) error {
		text := given[name]
		switch string(text) {
		case "", "null":
			return nil
		case "false", "0", `""`:
			if field.Kind() != reflect.Pointer { // as in a new record
				return nil
			}
		}
		return json.Unmarshal(text, field.Addr().Interface())
	})
}

// marshal is json.Marshal for a record.
func marshal(rec Kept) ([]byte, error) {
	out := []byte{'{'}
	err := eachField(reflect.ValueOf(rec).Elem(), func(name, option string, field reflect.Value) error {
		if omitted(option, field) {
			return nil
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(out, '"')
		out = append(out, name...)
		out = append(out, '"', ':')
		if isNil(field) {
			out = append(out, "null"...)
			return nil
		}
		text, err := json.Marshal(field.Interface())
		out = append(out, text...)
		return err
	})
	return append(out, '}'), err
}

// omitted tells whether the option of a field leaves it out, as encoding/json has it.
func omitted(option string, field reflect.Value) bool {
	if zero, ok := field.Interface().(interface{ IsZero() bool }); ok && option == "omitzero" {
		return zero.IsZero()
	}
	return option != "" && (field.IsZero() || option == "omitempty" && isList(field) && field.Len() == 0)
}

func isList(field reflect.Value) bool {
	return field.Kind() == reflect.Slice || field.Kind() == reflect.Map
}

func isNil(field reflect.Value) bool {
	return (isList(field) || field.Kind() == reflect.Pointer) && field.IsNil()
}

// eachField visits the fields of a struct and of those embedded in it, with the name
// and the option (omitempty, omitzero) of their tags.
func eachField(v reflect.Value, visit func(name, option string, field reflect.Value) error) error {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		var err error
		if f.Anonymous {
			err = eachField(v.Field(i), visit)
		} else {
			name, option, _ := strings.Cut(f.Tag.Get("json"), ",")
			err = visit(name, option, v.Field(i))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
