#!/usr/bin/env python
"""Time the evaluation of one travelling subject, and SSIM against scikit-image's on the same volumes, window and range; one run.

The subject is simulated. What is timed is what the library does per subject: image quality of four sequences, and the features of the site tests.
CPU seconds of this process are the figure to look at; wall seconds stand beside them. SSIM's two sides take turns.
"""
import argparse, os, platform, resource, statistics, sys, time

def own_peak():
    "This process's peak resident memory, in MB (VmHWM where there is one)"
    if os.path.exists('/proc/self/status'): return next(int(l.split()[1])/1024 for l in open('/proc/self/status') if l.startswith('VmHWM'))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/(2**20 if sys.platform=='darwin' else 2**10)

def timed(f):
    "Result, CPU seconds, wall seconds"
    c,w = time.process_time(),time.perf_counter(); out = f()
    return out, time.process_time()-c, time.perf_counter()-w

def subject(spacing):
    "A simulated patient at both sites, on the normalized scale"
    import numpy as np
    from neuroscope.core import image_data
    from neuroscope.simulate import scan, simulate_subject
    ph = simulate_subject(0, spacing=spacing); brain = ph.brain
    vols = [np.stack([image_data(i) for i in scan(ph, s).values()]) for s in 'ab']
    return [(v/np.percentile(v[:,brain], 99.5, axis=1)[:,None,None,None]).astype(np.float32) for v in vols],brain,ph.lesion

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, epilog='Example: python benchmarks/evaluation.py --spacing 2')
    p.add_argument('--spacing', type=float, default=1., help='voxel size, mm (1)')
    p.add_argument('--reps', type=int, default=3, help='repetitions of the SSIM comparison (3)')
    p.add_argument('--threads', type=int, help="of torch (torch's default)")
    args = p.parse_args()
    import numpy as np, torch
    from skimage.metrics import structural_similarity
    from neuroscope.evaluation.domain_gap import gap_features, rough_tissues
    from neuroscope.evaluation.image_quality import ssim, subject_metrics
    if args.threads: torch.set_num_threads(args.threads)
    cpu = next((l.split(':')[1].strip() for l in open('/proc/cpuinfo') if l.startswith('model name')), '') if os.path.exists('/proc/cpuinfo') else ''
    (a,b),mask,lesion = subject(args.spacing); base = own_peak()
    print(f'{cpu or platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}')
    print(f'one simulated subject, four sequences of {"×".join(map(str, mask.shape))} voxels, {mask.sum():,} of them brain; {base:.0f} MB at the peak before the evaluation')

    def reference():
        _,full = structural_similarity(np.where(mask, a[0], 0), np.where(mask, b[0], 0), data_range=1., win_size=7, full=True)
        return float(full[mask].mean(dtype=np.float64))
    ours,theirs = [],[]
    for _ in range(args.reps):
        s,*t = timed(lambda: ssim(a[0], b[0], mask, 1.)); ours.append(t)
        r,*t = timed(reference); theirs.append(t)
    if abs(s-r)>1e-4: sys.exit(f'the two SSIMs differ: {s:.6f} and {r:.6f}')
    med = lambda ts,i: statistics.median(t[i] for t in ts)
    print(f'\nSSIM of one volume, 7-voxel window, both {s:.4f}{"":14s}{"CPU s":>8s}{"wall s":>8s}')
    for n,ts in (('scikit-image, whole volume', theirs), ('neuroscope', ours)): print(f'{n:52s}{med(ts,0):8.2f}{med(ts,1):8.2f}')
    print(f'{"ratio":52s}{med(theirs,0)/med(ours,0):7.1f}x{med(theirs,1)/med(ours,1):7.1f}x   median of {args.reps}, in turn')

    print(f'\nper subject{"":41s}{"CPU s":>8s}{"wall s":>8s}')
    for n,f in (('image quality: 5 metrics, 4 sequences', lambda: subject_metrics(a, b, mask)),
                ('site tests: tissues, patches, histograms', lambda: gap_features('x', a, mask, rough_tissues(a, mask, lesion)))):
        _,c,w = timed(f); print(f'{n:52s}{c:8.2f}{w:8.2f}')
    print(f'peak memory of the process {own_peak():.0f} MB')

if __name__=='__main__': main()
