import { Checkbox, Label, Radio, RadioGroup } from 'react-aria-components';

/** One of a few, each with its name. */
export function Choice<T extends string>({ label, value, onChange, options }: {
  label: string;
  value: T;
  onChange: (value: T) => void;
  options: { value: T; label: string }[];
}) {
  return (
    <RadioGroup className="choice" value={value} onChange={(chosen) => onChange(chosen as T)}>
      <Label>{label}</Label>
      {options.map((option) => (
        <Radio key={option.value} value={option.value} className="radio"><span className="mark" aria-hidden="true" />{option.label}</Radio>
      ))}
    </RadioGroup>
  );
}

/** Yes or no. */
export function Check({ label, value, onChange }: { label: string; value: boolean; onChange: (value: boolean) => void }) {
  return (
    <Checkbox className="check" isSelected={value} onChange={onChange}><span className="mark" aria-hidden="true" />{label}</Checkbox>
  );
}
