import { useEffect, useRef } from 'react';

/** How loud the microphone is, drawn without re-rendering at every frame. */
export function Meter({ track, label }: { track: MediaStreamTrack | undefined; label: string }) {
  const bar = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const element = bar.current;
    if (!track || !element) return undefined;
    const context = new AudioContext();
    const analyser = context.createAnalyser();
    analyser.fftSize = 1024;
    context.createMediaStreamSource(new MediaStream([track])).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    let frame = 0;
    const draw = () => {
      analyser.getFloatTimeDomainData(samples);
      const rms = Math.sqrt(samples.reduce((sum, v) => sum + v * v, 0) / samples.length);
      const level = Math.max(0, Math.min(1, 1 + Math.log10(Math.max(rms, 1e-4)) / 3));
      element.style.transform = `scaleX(${level.toFixed(3)})`;
      frame = requestAnimationFrame(draw);
    };
    draw();
    return () => {
      cancelAnimationFrame(frame);
      element.style.transform = 'scaleX(0)';
      void context.close();
    };
  }, [track]);
  return (
    <div className="meter" role="img" aria-label={label}>
      <div ref={bar} />
    </div>
  );
}
